"""What is whole in a LeRobotDataset v3 that a crash left behind: its longest prefix of verified episodes.

Needs meta/info.json and the tasks; everything else is found again in tables and videos. Suffix legend: T frames.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa

from emu_robot.core import Image
from emu_robot.data.lerobot_files import INFO
from emu_robot.data.lerobot_tables import check_feature, column_of, read_field, read_json, read_table, read_texts
from emu_robot.data.lerobot_video import decode_frames, read_picture
from emu_robot.data.parquet_salvage import salvage
from emu_robot.errors import DataError

MOST_SAMPLES = 100
"""Pictures per camera and episode that are kept for the statistics."""
VIDEO_PLACE = ("chunk_index", "file_index", "from_timestamp")


@dataclass(frozen=True, kw_only=True)
class WholeEpisode:
    """An episode of which every row and picture could be read."""

    index: int
    table: Path
    """File with its rows."""
    rows: pa.Table
    tasks: list[str]
    videos: dict[str, tuple[Path, float]] = field(default_factory=dict)
    """Camera's feature -> video and the time in it at which the episode begins [s]."""
    samples: dict[str, list[Image]] = field(default_factory=dict)
    """Camera's feature -> some of its pictures."""


class DamagedSet:
    """A set as a crash left it."""

    def __init__(self, root: Path) -> None:
        """Raises `DataError` if info.json or the tasks cannot be read: nothing else says what the numbers are."""
        self.root = root
        try:
            self.info: dict[str, Any] = read_json(root / INFO)
            self.features: dict[str, dict[str, Any]] = read_field(root / INFO, self.info, "features", dict)
            self.fps = float(read_field(root / INFO, self.info, "fps", (int, float)))
        except DataError as error:
            raise DataError(
                f"{error}; copy this file from another set of the same robot, cameras and rate, and repair again"
            ) from error
        for key, feature in self.features.items():
            check_feature(root / INFO, key, feature)
        if self.info.get("codebase_version") != "v3.0":
            raise DataError(f"{root / INFO}: codebase_version is {self.info.get('codebase_version')}, must be v3.0")
        self.tasks = read_texts(root, "tasks", "task")
        if sorted(self.tasks) != list(range(len(self.tasks))) or not self.tasks:
            raise DataError(f"{root / 'meta/tasks.parquet'}: indices are {sorted(self.tasks)}, expected 0, 1, ...")
        self.end = ""
        """Why `whole_episodes` ended before all files were used; empty if it did not."""

    def of_type(self, dtype: str) -> list[str]:
        """Features of a type."""
        return [key for key, feature in self.features.items() if feature["dtype"] == dtype]

    @cached_property
    def told(self) -> dict[int, dict[str, Any]]:
        """Episode -> its row of meta/episodes, of the files that can be read."""
        told: dict[int, dict[str, Any]] = {}
        for path in sorted((self.root / "meta/episodes").rglob("*.parquet")):
            try:
                told |= {int(row["episode_index"]): row for row in read_table(path).to_pylist()}
            except (DataError, KeyError, TypeError, ValueError):
                continue  # its rows are found again
        return told

    def whole_episodes(self, pattern: pa.Table) -> Iterator[WholeEpisode]:
        """Episodes from the first to the last before damage, which `end` describes. pattern: see `salvage`."""
        self.end, begin = "", 0
        videos = _Videos(self)
        try:
            for i, (path, rows) in enumerate(self._pieces(pattern)):
                self._check_rows(i, begin, path, rows)
                told = self.told.get(i, {})
                tasks = [self.tasks[k] for k in dict.fromkeys(rows.column("task_index").to_pylist())]
                one = WholeEpisode(index=i, table=path, rows=rows, tasks=tasks, videos=videos.take(i, len(rows), told))
                yield from self._with_samples(one)
                begin += len(rows)
        except DataError as error:
            self.end = str(error)

    def _pieces(self, pattern: pa.Table) -> Iterator[tuple[Path, pa.Table]]:
        """The rows of each episode, with their file."""
        for path in sorted((self.root / "data").rglob("*.parquet")):
            try:
                table = read_table(path)
            except DataError:
                table = salvage(path, pattern)
            index_T = column_of(path, table, "episode_index").to_numpy()
            cuts = [0, *(np.flatnonzero(np.diff(index_T)) + 1).tolist(), len(index_T)]
            for begin, end in pairwise(cuts):
                yield path, table.slice(begin, end - begin)

    def _check_rows(self, i: int, begin: int, path: Path, rows: pa.Table) -> None:
        where, n_frames = f"{path}: episode {i}", len(rows)
        missing = [key for key in self.features if key not in rows.column_names and key not in self.of_type("video")]
        if missing:
            raise DataError(f"{where} lacks the column {missing[0]}")
        told = self.told.get(i, {}).get("length", n_frames)
        if told != n_frames:
            raise DataError(f"{where} has {n_frames} rows, its metadata say {told}")
        frames = np.arange(n_frames)
        expected = {"episode_index": np.full(n_frames, i), "frame_index": frames, "index": begin + frames}
        for key, values in expected.items():
            if not np.array_equal(column_of(path, rows, key).to_numpy().ravel(), values):
                raise DataError(f"{where} does not hold the rows that follow: {key} jumps")
        stamps = column_of(path, rows, "timestamp").to_numpy().astype(np.float64)
        if np.abs(stamps * self.fps - frames).max() > 0.1:
            raise DataError(f"{where} has time stamps that are not 1 / {self.fps:g} s apart")
        unknown = set(rows.column("task_index").to_pylist()) - set(self.tasks)
        if unknown:
            raise DataError(f"{where} has a task without words ({unknown.pop()})")

    def _with_samples(self, one: WholeEpisode) -> Iterator[WholeEpisode]:
        """The episode with samples of its pictures, after all of them were decoded."""
        n_frames = len(one.rows)
        kept = set(np.unique(np.linspace(0, n_frames - 1, MOST_SAMPLES).round().astype(int)).tolist())
        for key in (*self.of_type("video"), *self.of_type("image")):
            if key in one.videos:
                path, begin_s = one.videos[key]
                pictures = decode_frames(path, [begin_s + t / self.fps for t in range(n_frames)], self.fps)
            else:
                pictures = self._cells(one, key)
            try:
                one.samples[key] = [picture for t, picture in enumerate(pictures) if t in kept]
            except DataError as error:
                raise DataError(f"episode {one.index}: {error}") from error
        yield one

    def _cells(self, one: WholeEpisode, key: str) -> Iterator[Image]:
        for t, cell in enumerate(one.rows.column(key).to_pylist()):
            yield read_picture(f"{one.table}: {key} of episode {one.index}, frame {t}", cell["bytes"])


class _Videos:
    """Finds the part of each video that belongs to the next episode: by its metadata, or where the last one ended."""

    def __init__(self, damaged: DamagedSet) -> None:
        self._damaged = damaged
        self._at: dict[str, tuple[int, int]] = {}
        self._files = {key: sorted((damaged.root / "videos" / key).rglob("*.mp4")) for key in damaged.of_type("video")}
        self._n_frames: dict[Path, int] = {}

    def take(self, i: int, n_frames: int, told: dict[str, Any]) -> dict[str, tuple[Path, float]]:
        """Camera's feature -> video and begin [s] of episode `i`, the next one. Raises `DataError` if there is none."""
        return {key: self._take(key, i, n_frames, told) for key in self._files}

    def _take(self, key: str, i: int, n_frames: int, told: dict[str, Any]) -> tuple[Path, float]:
        files, fps = self._files[key], self._damaged.fps
        file, frame = self._at.get(key, (0, 0))
        chunk, number, begin_s = (told.get(f"videos/{key}/{name}") for name in VIDEO_PLACE)
        if chunk is not None and number is not None and begin_s is not None:
            name = str(self._damaged.info["video_path"]).format(video_key=key, chunk_index=chunk, file_index=number)
            path = self._damaged.root / name
            file, frame = (files.index(path), round(begin_s * fps)) if path in files else (len(files), 0)
        elif file < len(files) and frame == self._count(files[file]):
            file, frame = file + 1, 0
        if file >= len(files):
            raise DataError(f"episode {i}: there is no video of {key}")
        there = self._count(files[file]) - frame
        if there < n_frames:
            raise DataError(f"{files[file]}: holds {max(there, 0)} of the {n_frames} frames of episode {i}")
        self._at[key] = (file, frame + n_frames)
        return files[file], frame / fps

    def _count(self, path: Path) -> int:
        """Frames of a video; 0 for one that cannot be read."""
        if path not in self._n_frames:
            self._n_frames[path] = frames_of(path)
        return self._n_frames[path]


def frames_of(path: Path) -> int:
    """Frames of a video, without decoding them; 0 for one that cannot be read."""
    n_frames = 0
    with suppress(OSError, ValueError, IndexError), av.open(str(path)) as container:  # kinds of FFmpeg's errors
        n_frames = sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
    return n_frames
