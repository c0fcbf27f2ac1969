"""Which arrays a replay buffer holds and what an episode adds to each. Knows no files."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from emu_robot.data.episode import Episode
from emu_robot.errors import DataError, ShapeError
from emu_robot.robots.spec import RobotLayout

IMAGES_PER_CHUNK, ROWS_PER_CHUNK = 256, 8192
ROW_ARRAYS = ("frames/state", "frames/action", "frames/episode", "frames/subtask", "images/frame")
EPISODE_ARRAYS = ("episodes/end", "episodes/image_end")

type RowSpecs = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Array path -> shape of one row, dtype."""


def array_names(cameras: Iterable[str]) -> tuple[str, ...]:
    """Paths of all arrays that episodes add to."""
    return (*ROW_ARRAYS, *(f"images/{camera}" for camera in cameras), *EPISODE_ARRAYS)


def is_row(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], layout: RobotLayout) -> bool:
    """Whether an array of `array_names` may have rows of this shape and dtype; `layout` tells widths."""
    widths = {"frames/state": len(layout.state_names), "frames/action": len(layout.action_names)}
    if name in widths:
        return shape == (widths[name],) and dtype == np.float32
    if name in EPISODE_ARRAYS or name in ROW_ARRAYS:
        return shape == () and dtype == (np.int64 if name in EPISODE_ARRAYS else np.int32)
    return len(shape) == 3 and shape[2] == 3 and dtype == np.uint8


def row_specs_of(episode: Episode) -> RowSpecs:
    """The specs of a buffer that begins with this episode."""
    shapes: RowSpecs = {name: ((), np.dtype(np.int32)) for name in ROW_ARRAYS}
    shapes |= {name: ((), np.dtype(np.int64)) for name in EPISODE_ARRAYS}
    shapes |= {
        f"frames/{name}": (getattr(episode, name).shape[1:], np.dtype(np.float32)) for name in ("state", "action")
    }
    return shapes | {f"images/{c}": (episode.images[c].shape[1:], np.dtype(np.uint8)) for c in sorted(episode.images)}


def check_row_specs(what: str, given: RowSpecs, expected: RowSpecs) -> None:
    """Raise `DataError` for other cameras and `ShapeError` for another row shape."""
    if given.keys() != expected.keys():
        differ = ", ".join(sorted(given.keys() ^ expected.keys()))
        raise DataError(f"{what}: other cameras than the buffer's; they differ in {differ}")
    for name, (shape, _) in given.items():
        if shape != expected[name][0]:
            raise ShapeError(f"{what}/{name}, one row", shape, expected[name][0])


def create_arrays(root: zarr.Group, specs: RowSpecs) -> None:
    """Create empty arrays of these specs in place of any that an unfinished first append left.

    Images are uncompressed, so that `MappedImages` can read single ones. Camera noise hardly compresses (2400 images of
    128 px: 105 MB by zstd, 118 MB without).
    """
    for name, (shape, dtype) in specs.items():
        is_image = len(shape) == 3
        root.create_array(
            name,
            shape=(0, *shape),
            chunks=(IMAGES_PER_CHUNK if is_image else ROWS_PER_CHUNK, *shape),
            dtype=dtype,
            compressors=None if is_image else "auto",
            overwrite=True,
        )


def rows_of(episodes: Sequence[Episode], n_episodes: int, n_frames: int, n_images: int) -> dict[str, NDArray[Any]]:
    """Array path -> the rows that these episodes add to a buffer that holds the given counts."""
    lengths = np.array([len(episode) for episode in episodes])
    ends = n_frames + np.cumsum(lengths)
    image_ends = n_images + np.cumsum([len(episode.image_frames) for episode in episodes])
    image_frames = [e.image_frames + begin for e, begin in zip(episodes, ends - lengths, strict=True)]
    cameras = sorted(episodes[0].images)
    return {
        "frames/state": np.concatenate([episode.state for episode in episodes]),
        "frames/action": np.concatenate([episode.action for episode in episodes]),
        "frames/episode": np.repeat(n_episodes + np.arange(len(episodes), dtype=np.int32), lengths),
        "frames/subtask": np.concatenate([episode.subtask_T for episode in episodes]),
        "images/frame": np.concatenate(image_frames).astype(np.int32),
        **{f"images/{c}": np.concatenate([episode.images[c] for episode in episodes]) for c in cameras},
        "episodes/end": ends.astype(np.int64),
        "episodes/image_end": image_ends.astype(np.int64),
    }
