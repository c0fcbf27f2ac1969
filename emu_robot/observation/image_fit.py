"""A camera's picture as the square that a model sees; the same for datasets and for robots."""

from enum import StrEnum

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps

from emu_robot.core import Image


class ImageFit(StrEnum):
    """How a picture becomes a square: black borders, its middle, or stretched."""

    pad = "pad"
    crop = "crop"
    stretch = "stretch"


def fit_image(image: Image, size: int, fit: ImageFit) -> Image:
    """(size, size, 3) of a picture of any shape."""
    if image.shape[:2] == (size, size):
        return image
    picture = PillowImage.fromarray(image)
    match fit:
        case ImageFit.pad:
            picture = ImageOps.pad(picture, (size, size), PillowImage.Resampling.BOX)
        case ImageFit.crop:
            picture = ImageOps.fit(picture, (size, size), PillowImage.Resampling.BOX)
        case ImageFit.stretch:
            picture = picture.resize((size, size), PillowImage.Resampling.BOX)
    return np.asarray(picture)
