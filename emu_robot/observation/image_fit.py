"""A camera's picture as the square that a model sees; the same for datasets and for robots."""

from enum import StrEnum

import numpy as np

from emu_robot.core import Image
from emu_robot.errors import InvalidValueError


class ImageFit(StrEnum):
    """How a picture becomes a square: black borders, its middle, or stretched."""

    pad = "pad"
    crop = "crop"
    stretch = "stretch"

    @property
    def words(self) -> str:
        """What it does to a picture, to be said after "made 128 x 128"."""
        return {"pad": "with black borders", "crop": "from its middle", "stretch": "by stretching"}[self.value]


def fit_image(image: Image, size: int, fit: ImageFit) -> Image:
    """(size, size, 3) of a picture (H, W, 3). Raises `InvalidValueError` if padding would leave no pixel of it."""
    if image.shape[:2] == (size, size):
        return image
    if fit is ImageFit.pad and round(size * min(image.shape[:2]) / max(image.shape[:2])) == 0:
        raise InvalidValueError(f"a picture of {image.shape[1]} x {image.shape[0]} is too narrow to become a square")
    from PIL import Image as PillowImage  # not for the command line, which needs the names only
    from PIL import ImageOps

    picture = PillowImage.fromarray(image)
    match fit:
        case ImageFit.pad:
            picture = ImageOps.pad(picture, (size, size), PillowImage.Resampling.BOX)
        case ImageFit.crop:
            picture = ImageOps.fit(picture, (size, size), PillowImage.Resampling.BOX)
        case ImageFit.stretch:
            picture = picture.resize((size, size), PillowImage.Resampling.BOX)
    return np.array(picture)
