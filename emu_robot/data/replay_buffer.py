"""Episodes in one zarr v3 directory: flat arrays over all episodes, images uncompressed to be mapped. Knows no torch.

    frames/    state (N, S) f32 · action (N, A) f32 · episode (N,) i32 · subtask (N,) i32, index within the episode
    images/    frame (M,) i32, global frame index · <camera> (M, H, W, 3) u8 · codes_* (M, L) u32, once tokenized
    episodes/  end (E,) i64, global frame end · image_end (E,) i64 · metadata.jsonl, one line per episode
    index.json the committed counts, replaced atomically; rows beyond them do not count

A process killed at any moment leaves all episodes committed before.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from emu_robot.data.buffer_arrays import (
    RowSpecs,
    array_names,
    check_row_specs,
    create_arrays,
    is_row,
    row_specs_of,
    rows_of,
)
from emu_robot.data.buffer_index import COUNTS, INDEX, empty_index, read_index
from emu_robot.data.episode import Episode, check_meta, fields_from_meta
from emu_robot.data.image_codes import Encoder, codes_name, read_codes, store_codes
from emu_robot.data.mapped_images import MappedImages
from emu_robot.errors import DataError, InvalidValueError, ShapeError, UnknownNameError
from emu_robot.robots.spec import PANDA, RobotLayout
from emu_robot.shared.files import lock_directory, replace_json
from emu_robot.shared.typed import first_line

METADATA = "episodes/metadata.jsonl"


class ReplayBuffer:
    """A replay buffer, from `open` or `create`. Its counts are those of the last commit known to this object."""

    def __init__(self, path: Path, index: dict[str, Any]) -> None:
        self.path = path
        self._index = index
        self._lock: Any = None
        self._root: zarr.Group = zarr.open_group(path, mode="r+")
        self._metadata = self._read_metadata()

    # -- opening

    @classmethod
    def create(cls, path: str | Path, layout: RobotLayout = PANDA.layout) -> Self:
        """A new empty buffer. `layout` names its dimensions; the first episode fixes cameras and image size.

        Raises `DataError` if `path` exists and is not an empty directory.
        """
        path = Path(path)
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise DataError(f"{path}: already exists; expected a new path for a replay buffer")
        partial = path.with_name(f".{path.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        zarr.create_group(partial)
        for group in COUNTS:
            zarr.create_group(partial / group)
        (partial / METADATA).touch()
        replace_json(partial / INDEX, empty_index(layout))
        partial.replace(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """An existing buffer. Raises `DataError` naming the file that is missing, damaged or something else."""
        path = Path(path)
        index = read_index(path)
        try:
            buffer = cls(path, index)
            buffer._check_arrays()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: damaged replay buffer ({first_line(error)})") from error
        return buffer

    def _read_metadata(self) -> list[dict[str, Any]]:
        data = (self.path / METADATA).read_bytes()[: self._index["metadata_bytes"]]
        lines = [json.loads(line) for line in data.splitlines()]
        if len(data) != self._index["metadata_bytes"] or len(lines) != self.n_episodes:
            raise DataError(f"{self.path / METADATA}: {len(lines)} episodes, expected {self.n_episodes}")
        for i, line in enumerate(lines):
            try:
                check_meta(line)
            except InvalidValueError as error:
                raise DataError(f"{self.path / METADATA}: {error} of episode {i}") from error
        return lines

    def _check_arrays(self) -> None:
        """Raise `DataError` for an array that is too short, or whose rows are not those of episodes."""
        for name in array_names(self.cameras) if self.n_episodes else ():
            array, count = self._array(name), self._count(name)
            if array.shape[0] < count:
                raise DataError(f"{self.path / name}: {array.shape[0]} rows, expected at least {count}")
            if not is_row(name, array.shape[1:], array.dtype, self.layout):
                raise DataError(f"{self.path / name}: rows of {array.shape[1:]} {array.dtype} are not those of {name}")

    # -- reading

    @property
    def n_episodes(self) -> int:
        return self._index["n_episodes"]

    @property
    def n_frames(self) -> int:
        return self._index["n_frames"]

    @property
    def n_images(self) -> int:
        return self._index["n_images"]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the stored cameras; empty while there is no episode."""
        return tuple(self._index["cameras"])

    @property
    def layout(self) -> RobotLayout:
        """Names and kinds of the dimensions of state and action."""
        return RobotLayout.from_dict(self._index["layout"])

    @property
    def metadata(self) -> Sequence[Mapping[str, Any]]:
        """Per episode: instruction, family, split, seed, success, fps, subtasks, keyframes, starts (frames in it)."""
        return self._metadata

    @property
    def episode_ends(self) -> NDArray[np.int64]:
        """(E,) global frame index after each episode's last frame."""
        return self.load("episodes/end") if self.n_episodes else np.zeros(0, np.int64)

    @property
    def image_ends(self) -> NDArray[np.int64]:
        """(E,) image row after each episode's last stored image."""
        return self.load("episodes/image_end") if self.n_episodes else np.zeros(0, np.int64)

    def require_actions(self) -> None:
        """Raise `DataError` if some episodes were laid out without motion, so that their actions mean nothing."""
        still = sum(not meta.get("executed", True) for meta in self._metadata)
        if still:
            raise DataError(
                f"{self.path}: {still} of {self.n_episodes} episodes were laid out without motion (execute=false) and "
                "have no actions; they are for tokenizer and planner alone"
            )

    def load(self, name: str) -> NDArray[Any]:
        """A whole array in memory by its path, for example "frames/state" or "images/frame".

        Raises `DataError` for an array that is missing or damaged.
        """
        return self.read(name, 0, self._count(name))

    def read(self, name: str, begin: int, end: int) -> NDArray[Any]:
        """Rows begin .. end - 1 of an array, committed or not. Raises `DataError` if they are damaged."""
        array = self._array(name)
        try:
            return np.asarray(array[begin:end])
        except Exception as error:  # zarr's, and those of every compressor
            raise DataError(f"{self.path / name}: damaged ({first_line(error)})") from error

    def images(self, camera: str) -> MappedImages:
        """(M, H, W, 3) uint8, all stored images of one camera, read when indexed."""
        if camera not in self.cameras:
            raise UnknownNameError(f"camera in {self.path}", camera, self.cameras)
        array = self._array(f"images/{camera}")
        return MappedImages(self.path / "images" / camera, (self.n_images, *array.shape[1:]), array.chunks[0])

    def load_codes(self, camera: str, source: str) -> NDArray[np.uint32]:
        """(M, L) uint32 of `source`. Raises `DataError` if another source made them or images came after them."""
        name = codes_name(camera)
        return read_codes(self._array(name), self.path / name, self.n_images, source)

    def episode(self, i: int) -> Episode:
        """Episode i; its images are read from disk at each access. Raises `InvalidValueError` if out of range."""
        if not 0 <= i < self.n_episodes:
            raise InvalidValueError(f"episode {i} of {self.path}: it holds {self.n_episodes}")
        begin, end = self._span("episodes/end", i)
        image_begin, image_end = self._span("episodes/image_end", i)
        return Episode(
            **fields_from_meta(self._metadata[i]),
            state=self.read("frames/state", begin, end),
            action=self.read("frames/action", begin, end),
            image_frames=self.read("images/frame", image_begin, image_end) - np.int32(begin),
            images=_StoredImages(self, image_begin, image_end),
        )

    def episodes(self, begin: int, end: int) -> list[Episode]:
        """Episodes begin .. end - 1 with their images in memory; much quicker than one by one."""
        episodes = [self.episode(i) for i in range(begin, end)]
        bounds = [self._span("episodes/image_end", i) for i in range(begin, end)]
        first, last = bounds[0][0], bounds[-1][1]
        images = {camera: self.read(f"images/{camera}", first, last) for camera in self.cameras}
        return [
            replace(episode, images={camera: images[camera][i - first : j - first] for camera in images})
            for episode, (i, j) in zip(episodes, bounds, strict=True)
        ]

    def _span(self, name: str, i: int) -> tuple[int, int]:
        bounds = self.read(name, max(i - 1, 0), i + 1)
        return (int(bounds[0]) if i else 0), int(bounds[-1])

    def _array(self, name: str) -> zarr.Array:
        try:
            with zarr.config.set({"array.write_empty_chunks": True}):  # a missing file is then always an error
                array = self._root[name]
        except KeyError:
            array = None
        except Exception as error:  # zarr raises many kinds for damaged metadata
            raise DataError(f"{self.path / name}: damaged ({first_line(error)})") from error
        if not isinstance(array, zarr.Array):
            raise DataError(f"{self.path / name}: no such array in this replay buffer")
        return array

    def _count(self, name: str) -> int:
        return self._index[COUNTS[name.partition("/")[0]]]

    def row_specs(self) -> RowSpecs:
        """Row shape and dtype of every array that an episode adds to; empty while there is none."""
        arrays = {name: self._array(name) for name in array_names(self.cameras)} if self.n_episodes else {}
        return {name: (array.shape[1:], array.dtype) for name, array in arrays.items()}

    # -- writing

    def append(self, episode: Episode) -> None:
        """Commit one episode; see `extend`."""
        self.extend([episode])

    def extend(self, episodes: Sequence[Episode]) -> None:
        """Commit episodes together: after a kill, all of them are there or none.

        Raises `ShapeError` or `DataError` before anything is written if one does not fit the buffer,
        `SystemSetupError` if another process is writing to it.
        """
        if not episodes:
            return
        reference = self.row_specs() or row_specs_of(episodes[0])
        for episode in episodes:
            episode.validate()
            check_row_specs(f"{episode} for {self.path}", row_specs_of(episode), reference)
        self.lock()
        if not self.n_episodes:
            self._check_names(episodes[0])
            create_arrays(self._root, reference)
        added = rows_of(episodes, self.n_episodes, self.n_frames, self.n_images)
        for name, rows in added.items():
            array, count = self._array(name), self._count(name)
            array.resize((count + len(rows), *array.shape[1:]))
            array[count:] = rows
        lines = [episode.meta() for episode in episodes]
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        with (self.path / METADATA).open("r+b") as file:
            file.truncate(self._index["metadata_bytes"])
            file.seek(0, os.SEEK_END)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        index = self._index | {
            "n_episodes": self.n_episodes + len(episodes),
            "n_frames": self.n_frames + sum(len(episode) for episode in episodes),
            "n_images": self.n_images + sum(len(episode.image_frames) for episode in episodes),
            "metadata_bytes": self._index["metadata_bytes"] + len(data),
            "cameras": sorted(episodes[0].images),
        }
        replace_json(self.path / INDEX, index)
        self._index = index
        self._metadata.extend(lines)

    def _check_names(self, episode: Episode) -> None:
        for name, names in (("state", self.layout.state_names), ("action", self.layout.action_names)):
            width = getattr(episode, name).shape[1]
            if width != len(names):
                raise ShapeError(f"{episode} for {self.path}, {name}", f"{width} dimensions", f"{len(names)}: {names}")

    def encode(self, camera: str, encode: Encoder, source: str) -> None:
        """Store image tokens of one camera as images/codes_<camera>; keep those that `source` stored before.

        encode: (B, H, W, 3) uint8 -> (B, L) integers in [0, 2**32); source: identifies the tokenizer.
        Raises `UnknownNameError` for a camera, `InvalidValueError` for values out of range, `ShapeError`.
        """
        images = self.images(camera)
        self.lock()
        store_codes(self._root, camera, images, encode, source)

    def lock(self) -> None:
        """Become the only writer and remove the leftovers of a killed one. Writing methods lock by themselves.

        The lock ends with `close` or the process. Raises `SystemSetupError` if another process is writing.
        """
        if self._lock is None:
            self._lock = lock_directory(self.path)
            for partial in self.path.rglob("*.partial"):
                shutil.rmtree(partial) if partial.is_dir() else partial.unlink()

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def require_maker(path: Path, record: str) -> None:
    """Raise `DataError` if `path` is a replay buffer with episodes but without `record`, its maker's file."""
    if (path / INDEX).exists() and not (path / record).exists() and ReplayBuffer.open(path).n_episodes:
        raise DataError(f"{path}: a replay buffer that something else filled (it has no {record}); choose another path")


class _StoredImages(Mapping[str, NDArray[np.uint8]]):
    """Camera -> (M, H, W, 3) uint8 of one episode, read at each access."""

    def __init__(self, buffer: ReplayBuffer, begin: int, end: int) -> None:
        self._buffer, self._begin, self._end = buffer, begin, end

    def __getitem__(self, camera: str) -> NDArray[np.uint8]:
        if camera not in self._buffer.cameras:
            raise UnknownNameError(f"camera in {self._buffer.path}", camera, self._buffer.cameras)
        return self._buffer.read(f"images/{camera}", self._begin, self._end)

    def __iter__(self) -> Iterator[str]:
        return iter(self._buffer.cameras)

    def __len__(self) -> int:
        return len(self._buffer.cameras)
