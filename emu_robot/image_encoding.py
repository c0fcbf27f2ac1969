"""Pictures as cameras' drivers send them, by the names that ROS gives to encodings. Numpy only."""

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Image
from emu_robot.errors import InvalidValueError, ShapeError

CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}


def decode_image(data: NDArray[np.uint8], *, encoding: str, height: int, width: int, step: int) -> Image:
    """(H, W, 3) uint8 RGB of height rows of step bytes each, of which the first width pixels count.

    Raises `InvalidValueError` for another encoding, `ShapeError` if the data do not fit.
    """
    channels = CHANNELS.get(encoding)
    if channels is None:
        raise InvalidValueError(f"image encoding {encoding!r}; known: {', '.join(CHANNELS)}")
    if step < width * channels or data.size != height * step or not data.size:
        raise ShapeError("image data", f"{data.size} bytes", f"{height} rows of {step} >= {width} x {channels}")
    pixels = data.reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3] if encoding.startswith("rgb") else pixels[..., 2::-1])
