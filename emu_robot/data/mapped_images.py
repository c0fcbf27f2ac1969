"""All stored images of one camera, read from disk at each access. Knows only the layout of the zarr chunks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emu_robot.errors import DataError, InvalidValueError

type Images = NDArray[np.uint8]


class MappedImages:
    """(M, H, W, 3) uint8 on disk. An integer, a slice or an array of integers as index gives an array in memory.

    The operating system caches images that are read often, as far as memory allows.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], chunk: int) -> None:
        """folder: an uncompressed zarr v3 array of at least `shape`, in chunks of `chunk` whole images.

        Raises `DataError` naming a chunk that is missing or too short.
        """
        self.shape, self._chunk = shape, chunk
        n_bytes = chunk * int(np.prod(shape[1:]))
        self._chunks: list[Images] = []
        for i in range(-(-shape[0] // chunk)):
            file = folder / "c" / "/".join([str(i), *["0"] * (len(shape) - 1)])
            size = file.stat().st_size if file.exists() else 0
            if size != n_bytes:
                raise DataError(f"{file}: {size} bytes, expected {n_bytes}")
            self._chunks.append(np.memmap(file, np.uint8, mode="r", shape=(chunk, *shape[1:])))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: int | slice | Sequence[int] | NDArray[np.integer]) -> Images:
        """A copy of one image (H, W, 3) or of several. Raises `InvalidValueError` if out of range."""
        if isinstance(which, slice):
            which = np.arange(*which.indices(len(self)))
        rows = np.asarray(which)
        if rows.size and not -len(self) <= int(rows.min()) <= int(rows.max()) < len(self):
            raise InvalidValueError(f"images {rows.min()}..{rows.max()} of {len(self)}")
        flat = np.where(rows < 0, rows + len(self), rows).ravel()
        images = np.empty((len(flat), *self.shape[1:]), np.uint8)
        for i, (chunk, row) in enumerate(zip(*np.divmod(flat, self._chunk), strict=True)):
            images[i] = self._chunks[chunk][row]
        return images.reshape(*rows.shape, *self.shape[1:])


type ImageSource = MappedImages | Images
"""Images by row, on disk or in memory."""
