"""Reads a picture file, such as a photo: upright, in RGB."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps

from emu_robot.core import Image
from emu_robot.errors import DataError

DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes with more than 8 bits per value, which it would cut off."""
ORIENTATION = 0x0112
"""EXIF tag of the camera's orientation; 1 is upright."""


class PictureFile(NamedTuple):
    """The content of a picture file."""

    image: Image
    """(H, W, 3) uint8 RGB, upright."""
    turned: bool
    """Whether the file stores it turned, and its EXIF data say how."""


def read_picture(path: str | Path) -> Image:
    """Picture (H, W, 3) uint8 RGB, turned upright by its EXIF data. Raises `DataError` for any other file."""
    return open_picture(path).image


def open_picture(path: str | Path) -> PictureFile:
    """Read as `read_picture` does, and report whether the picture was turned."""
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise DataError(f"{path} is not a picture that can be read: not a regular file")
        with warnings.catch_warnings(action="error", category=PillowImage.DecompressionBombWarning):
            picture = PillowImage.open(path)
        with picture:
            if picture.mode in DEEP_MODES:
                raise DataError(f"{path}: picture of mode {picture.mode}; 8 bits per value are needed")
            turned = picture.getexif().get(ORIENTATION, 1) in range(2, 9)
            return PictureFile(np.array(ImageOps.exif_transpose(picture).convert("RGB")), turned)
    except DataError:
        raise
    except (PillowImage.DecompressionBombWarning, PillowImage.DecompressionBombError) as error:
        raise DataError(f"{path}: picture of more than {PillowImage.MAX_IMAGE_PIXELS} pixels") from error
    except Exception as error:  # Pillow's decoders raise many kinds
        reason = isinstance(error, OSError) and error.strerror
        raise DataError(f"{path} is not a picture that can be read{f': {reason}' if reason else ''}") from error
