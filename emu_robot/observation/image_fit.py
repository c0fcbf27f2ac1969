"""Fits a camera's picture into the square that a model sees, in the same way for datasets and robots."""

from enum import StrEnum

import numpy as np

from emu_robot.core import Image
from emu_robot.errors import InvalidValueError


class ImageFit(StrEnum):
    """How a picture becomes a square."""

    pad = "pad"
    """Add black borders."""
    crop = "crop"
    """Take the middle."""
    stretch = "stretch"
    """Stretch it."""

    @property
    def words(self) -> str:
        """The fit in words, to follow "made 128 x 128"."""
        return {"pad": "with black borders", "crop": "from its middle", "stretch": "by stretching"}[self.value]


def fit_image(image: Image, size: int, fit: ImageFit) -> Image:
    """A picture (H, W, 3) as (size, size, 3). Raises `InvalidValueError` if padding would leave no pixel of it."""
    if image.shape[:2] == (size, size):
        return image
    if fit is ImageFit.pad and round(size * min(image.shape[:2]) / max(image.shape[:2])) == 0:
        raise InvalidValueError(f"a picture of {image.shape[1]} x {image.shape[0]} is too narrow to become a square")
    from PIL import Image as PillowImage  # late: the command line needs the names only
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
