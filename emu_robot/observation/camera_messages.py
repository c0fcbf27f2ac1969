"""Camera messages, raw or compressed, from any library that reads them."""

from typing import Any

import numpy as np

from emu_robot.core import Image
from emu_robot.observation.image_compression import decode_compressed
from emu_robot.observation.image_encoding import decode_image

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


def is_compressed(topic: str) -> bool:
    """Whether a camera's topic carries sensor_msgs/CompressedImage: its name ends as image_transport's do."""
    return topic.endswith("/compressed")


def message_type(topic: str) -> str:
    """Message type of a camera's topic: `RAW` or `COMPRESSED`."""
    return COMPRESSED if is_compressed(topic) else RAW


def decode_picture(message: Any) -> Image:
    """Picture (H, W, 3) uint8 RGB of a message of type `RAW` or `COMPRESSED`.

    Raises `InvalidValueError` for an unknown encoding or format and for damaged compressed data, `ShapeError` for raw
    data that do not fit.
    """
    data = np.frombuffer(message.data, np.uint8)
    if hasattr(message, "format"):
        return decode_compressed(data, format=message.format)
    return decode_image(data, encoding=message.encoding, height=message.height, width=message.width, step=message.step)


def describe(message: Any, image: Image | None = None) -> str:
    """Size and encoding of a message, for instance "640 x 480 jpeg". image: needed for the size of a compressed one."""
    if not hasattr(message, "format"):
        return f"{message.width} x {message.height} {message.encoding}"
    return message.format if image is None else f"{image.shape[1]} x {image.shape[0]} {message.format}"
