"""Decodes raw pictures of camera drivers, by ROS's names of encodings in upper or lower case.

YUV is BT.601 in video range, as V4L2 cameras send it and cv_bridge reads it. PyAV converts YUV and Bayer patterns,
within 0.6 ms for 640 x 480.
"""

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Image
from emu_robot.errors import InvalidValueError, ShapeError

CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
PACKED_YUV = {"yuyv": 0, "yuv422_yuy2": 0, "uyvy": 1, "yuv422": 1}
"""Encoding -> index of the first brightness in its two bytes per pixel."""
PLANAR_YUV = {"nv12": "uv", "nv21": "vu"}
"""Encoding -> order of the colours in the half plane below that of brightness."""
BAYER = ("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8")
ENCODINGS = (*CHANNELS, *PACKED_YUV, *PLANAR_YUV, *BAYER)


def decode_image(data: NDArray[np.uint8], *, encoding: str, height: int, width: int, step: int) -> Image:
    """Picture (H, W, 3) uint8 RGB. data: height rows of step bytes; the first width pixels of each row count.

    Raises `InvalidValueError` for an unknown encoding, `ShapeError` if the data do not fit.
    """
    name = encoding.lower()
    if name in CHANNELS:
        return _from_channels(_rows(data, height, width, step, CHANNELS[name]), name, width)
    if name not in ENCODINGS:
        raise InvalidValueError(f"image encoding {encoding!r}; known: {', '.join(ENCODINGS)}")
    if width % 2 or height % 2:
        raise ShapeError(f"{name} image", f"{width} x {height}", "an even width and height")
    if name in PACKED_YUV:
        pixels = _rows(data, height, width, step, 2).reshape(height, width, 2)
        return _convert(pixels[..., :: 1 - 2 * PACKED_YUV[name]], "yuyv422")
    if name in PLANAR_YUV:
        rows = _rows(data, height, width, step, 1, height // 2)
        colours = rows[height:].reshape(height // 2, width // 2, 2)
        ordered = colours if PLANAR_YUV[name] == "uv" else colours[..., ::-1]
        return _convert(np.concatenate([rows[:height], ordered.reshape(height // 2, width)]), "nv12")
    return _convert(_rows(data, height, width, step, 1), name)


def _rows(
    data: NDArray[np.uint8], height: int, width: int, step: int, pixel: int, further: int = 0
) -> NDArray[np.uint8]:
    """The rows without padding, (height + further, width * pixel). pixel: bytes per pixel."""
    rows = height + further
    if min(height, width) < 1 or step < width * pixel or data.size != rows * step:
        raise ShapeError("image data", f"{data.size} bytes", f"{rows} rows of {step} >= {width} x {pixel}")
    if step != width * pixel and step % width == 0:
        raise ShapeError("image data", f"rows of {step} bytes, {step // width} per pixel", f"{pixel}, by its encoding")
    return data.reshape(rows, step)[:, : width * pixel]


def _from_channels(rows: NDArray[np.uint8], name: str, width: int) -> Image:
    pixels = rows.reshape(len(rows), width, CHANNELS[name])
    if name == "mono8":
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3] if name.startswith("rgb") else pixels[..., 2::-1])


def _convert(pixels: NDArray[np.uint8], layout: str) -> Image:
    """Convert from a layout by ffmpeg's name. PyAV is imported late: it is slow to import, and few cameras need it."""
    from av import VideoFrame

    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=layout)
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
