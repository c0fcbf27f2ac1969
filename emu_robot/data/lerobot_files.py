"""A LeRobotDataset on disk, version 2.1 or 3.0: what it holds, its rows and its pictures. Knows neither torch nor zarr.

Read here rather than by LeRobot because that reads 3.0 only, checks little and needs torch in every process.
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PillowImage

from emu_robot.core import Floats32, Image
from emu_robot.errors import DataError, UnknownNameError

VERSIONS = ("v2.1", "v3.0")
INFO, STATS = "meta/info.json", "meta/stats.json"
IMAGE_PREFIX = "observation.images."
LANGUAGE = ("language_persistent", "language_events")


@dataclass(frozen=True, kw_only=True)
class VideoSpan:
    """Where an episode's frames of one camera lie: file, and seconds from its begin to their first."""

    file: Path
    begin_s: float


@dataclass(frozen=True, kw_only=True)
class EpisodeFiles:
    """Where one episode lies. tasks: its instructions, as the metadata say."""

    index: int
    length: int
    tasks: tuple[str, ...]
    table: Path
    videos: dict[str, VideoSpan]


class LeRobotFiles:
    """An opened dataset. fps [Hz]; features as in info.json; episodes in order; tasks and subtasks by their index."""

    def __init__(self, root: Path) -> None:
        """Raises `DataError` naming the file and field that is missing, damaged or of another version."""
        self.root = root
        info = _json(root / INFO)
        self.version = str(info.get("codebase_version"))
        if self.version not in VERSIONS:
            raise DataError(
                f"{root / INFO}: codebase_version is {self.version!r}, must be one of {', '.join(VERSIONS)}"
            )
        self.features: dict[str, dict[str, Any]] = _field(root / INFO, info, "features", dict)
        self.fps = float(_field(root / INFO, info, "fps", (int, float)))
        if not self.fps > 0:
            raise DataError(f"{root / INFO}: fps is {self.fps}, must be positive")
        self._info = info
        self.tasks = self._texts("tasks", "task")
        self.subtasks = self._texts("subtasks", "subtask")
        self.episodes = list(self._episodes_v3() if self.version == "v3.0" else self._episodes_v2())
        if not self.episodes:
            raise DataError(f"{root}: holds no episodes")
        self._check_stats()

    @property
    def cameras(self) -> list[str]:
        """Names of the colour cameras' features, without `observation.images.`."""
        shown = [key for key, feature in self.features.items() if feature.get("dtype") in ("video", "image")]
        return [key.removeprefix(IMAGE_PREFIX) for key in shown if not _is_depth(self.features[key])]

    def names(self, key: str) -> list[str]:
        """Names of a feature's dimensions, or <key>.0, <key>.1, ... if it has none. Raises `UnknownNameError`."""
        if key not in self.features:
            raise UnknownNameError(f"feature of {self.root}", key, self.features)
        feature = self.features[key]
        names, shape = feature.get("names"), feature.get("shape") or [1]
        if isinstance(names, dict):  # {"motors": [...]}, as some version 2 sets have it
            names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
        width = int(np.prod(shape))
        return [str(name) for name in names] if names and len(names) == width else [f"{key}.{i}" for i in range(width)]

    def rows(self, episode: EpisodeFiles) -> pa.Table:
        """The episode's rows, one per frame, in order; columns as stored.

        Raises `DataError` for a file that cannot be read, missing frames, or time stamps that are not 1 / fps apart.
        """
        table = _read_table(episode.table)
        of_episode = _column(episode.table, table, "episode_index").to_numpy() == episode.index
        rows = table.filter(pa.array(of_episode))
        if len(rows) != episode.length or episode.length == 0:
            found = f"{len(rows)} frames of episode {episode.index}"
            raise DataError(f"{episode.table}: {found}, the metadata say {episode.length}")
        steps = np.diff(_column(episode.table, rows, "timestamp").to_numpy().astype(np.float64)) * self.fps
        if len(steps) and not np.abs(steps - 1).max() < 0.1:
            t = int(np.abs(steps - 1).argmax())
            gap = f"{steps[t] / self.fps:.4f} s after frame {t}"
            raise DataError(
                f"{episode.table}: timestamp of episode {episode.index}: {gap}, expected {1 / self.fps:.4f} s"
            )
        return rows

    def numbers(self, episode: EpisodeFiles, rows: pa.Table, key: str) -> Floats32:
        """(T, D) of one feature. Raises `DataError` for ragged rows, another width or values that are not finite."""
        values = _column(episode.table, rows, key).to_pylist()
        width = len(self.names(key))
        where = f"{episode.table}: {key} of episode {episode.index}"
        try:
            array = np.asarray(values, np.float32).reshape(len(values), -1)
        except (ValueError, TypeError) as error:
            raise DataError(f"{where}: rows of different lengths or no numbers") from error
        if array.shape[1] != width:
            raise DataError(f"{where}: {array.shape[1]} dimensions, {INFO} says {width}")
        if not np.isfinite(array).all():
            t = int(np.flatnonzero(~np.isfinite(array).all(1))[0])
            raise DataError(f"{where}: frame {t} holds values that are not finite")
        return array

    def images(self, episode: EpisodeFiles, rows: pa.Table, camera: str, frames: Sequence[int]) -> Iterator[Image]:
        """(H, W, 3) uint8 of ascending frames. Raises `DataError` naming a video or picture that cannot be decoded."""
        key = self._image_key(camera)
        if self.features[key]["dtype"] == "video":
            span = episode.videos[key]
            yield from decode_frames(span.file, [span.begin_s + t / self.fps for t in frames], self.fps)
            return
        column = _column(episode.table, rows, key)
        for t in frames:
            yield self._picture(f"{episode.table}: {key} of episode {episode.index}, frame {t}", column[t].as_py())

    def _picture(self, where: str, stored: Any) -> Image:
        try:
            source = io.BytesIO(stored["bytes"]) if stored.get("bytes") else self._inside(stored["path"])
            with PillowImage.open(source) as picture:
                return np.asarray(picture.convert("RGB"))
        except (OSError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{where}: no readable picture ({error})") from error

    def _image_key(self, camera: str) -> str:
        for key in (IMAGE_PREFIX + camera, camera):
            if key in self.features:
                return key
        raise UnknownNameError(f"camera of {self.root}", camera, self.cameras)

    # -- metadata

    def _inside(self, relative: str) -> Path:
        """A path of the dataset. Raises `DataError` for one that leads out of it."""
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise DataError(f"{self.root / INFO}: the path {relative!r} leads out of the dataset")
        return path

    def _path(self, field: str, **values: Any) -> Path:
        template = _field(self.root / INFO, self._info, field, str)
        try:
            path = self._inside(template.format(**values))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise DataError(f"{self.root / INFO}: {field} is {template!r}, cannot be filled in ({error!r})") from error
        if not path.is_file():
            raise DataError(f"{path}: no such file; {INFO} and the metadata of the episodes name it")
        return path

    def _video_keys(self) -> list[str]:
        return [key for key, feature in self.features.items() if feature.get("dtype") == "video"]

    def _episodes_v3(self) -> Iterator[EpisodeFiles]:
        files = sorted((self.root / "meta/episodes").rglob("*.parquet"))
        for file in files:
            for row in _read_table(file).to_pylist():
                try:
                    place = {name: row[f"data/{name}"] for name in ("chunk_index", "file_index")}
                    videos = {key: self._span_v3(row, key) for key in self._video_keys()}
                    yield EpisodeFiles(
                        index=int(row["episode_index"]),
                        length=int(row["length"]),
                        tasks=_tasks(row),
                        table=self._path("data_path", **place),
                        videos=videos,
                    )
                except (KeyError, TypeError, ValueError) as error:
                    raise DataError(f"{file}: {error!r} in the row of episode {row.get('episode_index')}") from error

    def _span_v3(self, row: dict[str, Any], key: str) -> VideoSpan:
        place = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
        file = self._path("video_path", video_key=key, **place)
        return VideoSpan(file=file, begin_s=float(row[f"videos/{key}/from_timestamp"]))

    def _episodes_v2(self) -> Iterator[EpisodeFiles]:
        file = self.root / "meta/episodes.jsonl"
        per_chunk = int(_field(self.root / INFO, self._info, "chunks_size", int))
        for row in _json_lines(file):
            try:
                index, length, tasks = int(row["episode_index"]), int(row["length"]), _tasks(row)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{file}: {error!r} in the row of episode {row.get('episode_index')}") from error
            place = {"episode_chunk": index // per_chunk, "episode_index": index}
            videos = {
                key: VideoSpan(file=self._path("video_path", video_key=key, **place), begin_s=0.0)
                for key in self._video_keys()
            }
            table = self._path("data_path", **place)
            yield EpisodeFiles(index=index, length=length, tasks=tasks, table=table, videos=videos)

    def _texts(self, name: str, column: str) -> dict[int, str]:
        """meta/<name>.parquet or .jsonl: index -> text; empty if there is none."""
        table, lines = self.root / f"meta/{name}.parquet", self.root / f"meta/{name}.jsonl"
        if table.exists():
            rows = _read_table(table)
            texts = "__index_level_0__" if column not in rows.column_names else column
            pairs = zip(_column(table, rows, f"{column}_index"), _column(table, rows, texts), strict=True)
            return {index.as_py(): text.as_py() for index, text in pairs}
        if lines.exists():
            try:
                return {int(row[f"{column}_index"]): str(row[column]) for row in _json_lines(lines)}
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{lines}: {error!r}") from error
        return {}

    def _check_stats(self) -> None:
        """Raise `DataError` if stats.json holds a number that is not finite: whoever trains on the set would use it."""
        path = self.root / STATS
        for key, stats in (_json(path) if path.exists() else {}).items():
            for name, values in stats.items():
                if not np.isfinite(np.asarray(values, np.float64)).all():
                    raise DataError(f"{path}: {name} of {key} holds values that are not finite")


def camera_name(feature: str) -> str:
    """observation.images.top -> top; observation.image -> observation_image."""
    return feature.removeprefix(IMAGE_PREFIX).replace(".", "_")


def decode_frames(file: Path, seconds: Sequence[float], fps: float) -> Iterator[Image]:
    """(H, W, 3) uint8 of the frames shown at ascending times [s] of a video; raises `DataError` if one is missing."""
    wanted = iter(seconds)
    target = next(wanted, None)
    if target is None:
        return
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            assert stream.time_base is not None
            container.seek(int(target / stream.time_base), stream=stream, backward=True)
            for frame in container.decode(stream):
                while target is not None and abs(float(frame.time or 0.0) - target) < 0.5 / fps:
                    yield cast(Image, frame.to_ndarray(format="rgb24"))
                    target = next(wanted, None)
                if target is None:
                    return
    except (av.FFmpegError, OSError, IndexError) as error:
        raise DataError(f"{file}: cannot be decoded ({error})") from error
    raise DataError(f"{file}: no frame at {target:.3f} s")


@lru_cache(maxsize=4)
def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from error


def _column(path: Path, table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise DataError(f"{path}: no column {name!r}; it has {', '.join(table.column_names)}")
    return table.column(name)


def _is_depth(feature: dict[str, Any]) -> bool:
    marks = (feature.get("info") or {}) | (feature.get("video_info") or {})
    return bool(marks.get("is_depth_map") or marks.get("video.is_depth_map"))


def _tasks(row: dict[str, Any]) -> tuple[str, ...]:
    """An episode's instructions; raises `ValueError` if it has none."""
    tasks = tuple(str(task) for task in row["tasks"])
    if not tasks or not all(task.strip() for task in tasks):
        raise ValueError(f"tasks are {list(tasks)}")
    return tasks


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; not a LeRobotDataset") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable JSON ({error})") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds a {type(value).__name__}, expected an object")
    return value


def _json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable JSON lines ({error})") from error


def _field(path: Path, values: dict[str, Any], name: str, kind: Any) -> Any:
    if not isinstance(values.get(name), kind):
        raise DataError(f"{path}: {name} is {values.get(name)!r}")
    return values[name]
