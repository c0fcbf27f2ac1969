"""Image tokens stored beside their images, with the tokenizer that made them and the number of rows done."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from emu_robot.data.buffer_arrays import ROWS_PER_CHUNK
from emu_robot.data.mapped_images import MappedImages
from emu_robot.errors import DataError, InvalidValueError, ShapeError
from emu_robot.shared.interrupts import stop_request
from emu_robot.shared.progress import progress

CODES_PER_BLOCK = 1024
"""Images encoded and written together."""

type Encoder = Callable[[NDArray[np.uint8]], NDArray[np.integer]]
"""(B, H, W, 3) uint8 -> (B, L) integers in [0, 2**32)."""


def codes_name(camera: str) -> str:
    """Path of a camera's codes in a replay buffer."""
    return f"images/codes_{camera}"


def store_codes(root: zarr.Group, camera: str, images: MappedImages, encode: Encoder, source: str) -> None:
    """Encode the images that have no codes of `source` yet, block by block; see `ReplayBuffer.encode`."""
    name = codes_name(camera)
    array = root.get(name)
    if not isinstance(array, zarr.Array) or array.attrs.get("source") != source:
        length = _checked(encode(images[:1]), 1).shape[1]
        array = root.create_array(
            name, shape=(0, length), chunks=(ROWS_PER_CHUNK, length), dtype="uint32", overwrite=True,
            attributes={"source": source, "n_done": 0},
        )  # fmt: skip
    done = int(cast(int, array.attrs["n_done"]))
    n_blocks = -(-(len(images) - done) // CODES_PER_BLOCK)
    with progress(f"encoding {camera}", n_blocks) as report, stop_request("the block under way is stored") as stop:
        for begin in range(done, len(images), CODES_PER_BLOCK):
            block = images[begin : begin + CODES_PER_BLOCK]
            codes = _checked(encode(block), len(block))
            array.resize((begin + len(codes), array.shape[1]))
            array[begin:] = codes
            array.attrs["n_done"] = begin + len(codes)
            report("")
            stop.obey(f"stopped after {begin + len(codes)} of {len(images)} images; the same command continues there")


def read_codes(array: zarr.Array, path: Path, n_images: int, source: str) -> NDArray[np.uint32]:
    """(M, L) uint32 of `source`; path: the array's path, for messages. See `ReplayBuffer.load_codes`."""
    if array.attrs.get("source") != source:
        raise DataError(f"{path}: made by another image tokenizer; encode the buffer again")
    if array.attrs["n_done"] != n_images:
        raise DataError(f"{path}: {array.attrs['n_done']} rows for {n_images} images; encode the buffer again")
    return np.asarray(array[:n_images])


def _checked(codes: NDArray[Any], n_images: int) -> NDArray[np.uint32]:
    if codes.ndim != 2 or len(codes) != n_images or not np.issubdtype(codes.dtype, np.integer):
        raise ShapeError("image codes", f"{codes.shape} {codes.dtype}", f"({n_images}, L) integer")
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < 2**32:
        raise InvalidValueError(f"image codes: values {codes.min()}..{codes.max()} do not fit uint32")
    return codes.astype(np.uint32)
