"""Decodes compressed pictures of camera drivers and image_transport: JPEG and PNG, with Pillow.

Pillow takes 2 ms for a JPEG of 640 x 480. PyAV takes half of that, but shows the missing part of a truncated picture in
grey; Pillow refuses it.
"""

import io
import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from emu_robot.core import Image
from emu_robot.errors import EmuRobotError, InvalidValueError
from emu_robot.observation.image_encoding import ENCODINGS

MOST_PIXELS = 1 << 24
"""Largest number of pixels of a picture, 4096 x 4096: a few bytes may unpack to any size."""
MODES = ("L", "P", "RGB", "RGBA")
"""Pillow's modes that convert to RGB without guessing."""
PNG_DEPTH = 24
"""Index of the byte with the bits per value; Pillow itself would cut 16 bits to 8."""
_FORMAT = re.compile(r"(?:(?P<source>\w+) *; *)?(?P<codec>jpeg|jpg|png)(?P<transport> compressed *(?P<order>\w*))?")
_KNOWN = "'jpeg', 'png', or as image_transport has it: 'bgr8; jpeg compressed bgr8'"


class _Format(NamedTuple):
    codec: str
    """Pillow's name: JPEG or PNG."""
    is_ordered: bool
    """Whether the order of the colours is known."""


def decode_compressed(data: NDArray[np.uint8], *, format: str) -> Image:
    """Picture (H, W, 3) uint8 RGB as stored; its EXIF orientation is ignored. format: field of the message.

    Raises `InvalidValueError` for another format, depth images, 16 bits per value, more than `MOST_PIXELS`, and for
    data that are damaged, cut off, or in another format.
    """
    codec, is_ordered = _read_format(format)
    try:
        with PillowImage.open(io.BytesIO(data), formats=[codec]) as picture:
            _check(picture, codec, data, is_ordered)
            return np.asarray(picture.convert("RGB"))
    except EmuRobotError:
        raise
    except PillowImage.DecompressionBombError as error:
        raise InvalidValueError(f"{codec} picture of more than {MOST_PIXELS} pixels") from error
    except Exception as error:  # Pillow's decoders raise many kinds
        raise InvalidValueError(f"{codec} picture that is damaged, cut off, or none") from error


def _read_format(format: str) -> _Format:
    found = _FORMAT.fullmatch(format.strip().lower())
    if found is None:
        raise InvalidValueError(f"compressed image format {format!r}; known: {_KNOWN}")
    source = found["source"]
    if source is not None and source not in ENCODINGS:
        raise InvalidValueError(f"compressed image of encoding {source!r}; known: {', '.join(ENCODINGS)}")
    is_ordered = found["transport"] is None or found["order"].startswith("bgr")
    return _Format("JPEG" if found["codec"].startswith("j") else "PNG", is_ordered)


def _check(picture: PillowImage.Image, codec: str, data: NDArray[np.uint8], is_ordered: bool) -> None:
    """Check the header of the picture."""
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise InvalidValueError(f"{codec} picture of {width} x {height}, more than {MOST_PIXELS} pixels")
    if picture.mode not in MODES or (codec == "PNG" and data[PNG_DEPTH] > 8):
        raise InvalidValueError(f"{codec} picture of mode {picture.mode}; known: 8 bits per value, grey or RGB")
    if picture.mode != "L" and not is_ordered:
        raise InvalidValueError(f"{codec} picture in colours of unknown order; known formats: {_KNOWN}")
