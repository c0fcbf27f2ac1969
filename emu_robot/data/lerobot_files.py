"""Read a LeRobotDataset on disk (v2.0, v2.1, v3.0): metadata, rows and pictures. Knows neither torch nor zarr.

LeRobot itself reads 3.0 only, checks little and needs torch in every process.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from emu_robot.core import Floats32, Image
from emu_robot.data.lerobot_names import IMAGE_PREFIX, dimension_names
from emu_robot.data.lerobot_tables import (
    check_feature,
    column_of,
    read_field,
    read_json,
    read_json_lines,
    read_table,
    read_texts,
)
from emu_robot.data.lerobot_video import (
    DEEP_GREY,
    NO_COLOUR,
    VideoSpan,
    decode_frames,
    mode_of_picture,
    mode_of_video,
    read_picture,
)
from emu_robot.errors import DataError, UnknownNameError
from emu_robot.shared.typed import first_line

VERSIONS = ("v2.0", "v2.1", "v3.0")
INFO, STATS = "meta/info.json", "meta/stats.json"
LANGUAGE = ("language_persistent", "language_events")


@dataclass(frozen=True, kw_only=True)
class EpisodeFiles:
    """The files of one episode."""

    index: int
    """Index in the set."""
    length: int
    """Frames."""
    tasks: tuple[str, ...]
    """Instructions in the metadata."""
    table: Path
    """File with its rows."""
    videos: dict[str, VideoSpan]
    """Camera's feature -> its part of a video."""


class LeRobotFiles:
    """An opened dataset. fps [Hz]; features as in info.json; episodes in order; tasks and subtasks by their index."""

    def __init__(self, root: Path) -> None:
        """Raises `DataError` naming the file and field that is missing, damaged or of another version."""
        self.root = root
        info = read_json(root / INFO)
        self.version = str(info.get("codebase_version"))
        if self.version not in VERSIONS:
            raise DataError(
                f"{root / INFO}: codebase_version is {self.version!r}, must be one of {', '.join(VERSIONS)}; "
                "LeRobot 0.1 makes v2.0 of older sets: lerobot/common/datasets/v2/convert_dataset_v1_to_v2.py"
            )
        self.features: dict[str, dict[str, Any]] = read_field(root / INFO, info, "features", dict)
        for key, feature in self.features.items():
            check_feature(root / INFO, key, feature)
        self.fps = float(read_field(root / INFO, info, "fps", (int, float)))
        if not self.fps > 0:
            raise DataError(f"{root / INFO}: fps is {self.fps}, must be positive")
        self._info = info
        self.tasks = read_texts(root, "tasks", "task")
        self.subtasks = read_texts(root, "subtasks", "subtask")
        self.episodes = list(_bounded(self._episodes_v3()) if self.version == "v3.0" else self._episodes_v2())
        if not self.episodes:
            raise DataError(f"{root}: holds no episodes")

    @property
    def cameras(self) -> list[str]:
        """Names of the colour cameras' features, without `observation.images.`."""
        return [camera for camera in self._shown if camera not in self.left_out]

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Cameras without colour pictures -> what they give, in words."""
        told = {camera: self._without_colours(key) for camera, key in self._shown.items()}
        return {camera: why for camera, why in told.items() if why}

    @property
    def _shown(self) -> dict[str, str]:
        """Name of each camera, without `observation.images.` -> its feature."""
        shown = [key for key, feature in self.features.items() if feature["dtype"] in ("video", "image")]
        return {key.removeprefix(IMAGE_PREFIX): key for key in shown}

    def _without_colours(self, key: str) -> str:
        """What a camera without colours gives, by metadata or first picture; "" for colours and unreadable files."""
        if _is_depth(self.features[key]):
            return "gives depth, as info.json says"
        episode = self.episodes[0]
        if self.features[key]["dtype"] == "video":
            mode, deep = mode_of_video(episode.videos[key].file), DEEP_GREY
        else:
            try:
                stored = column_of(episode.table, read_table(episode.table), key)[0].as_py()
                mode, deep = mode_of_picture(key, self._source(key, stored)), NO_COLOUR
            except DataError:
                return ""
        return f"gives numbers of more than 8 bits ({mode}), as depth does, no colours" if deep.fullmatch(mode) else ""

    def holds_whole_numbers(self, key: str) -> bool:
        """Whether a feature holds booleans or integers."""
        return str(self.features[key]["dtype"]).startswith(("bool", "int", "uint"))

    def check(self, episode: EpisodeFiles, cameras: Iterable[str]) -> None:
        """Raise `DataError` if an episode lacks its instruction, its table or its part of a camera's video."""
        where = f"{self.root}: episode {episode.index}"
        if not episode.tasks or not all(task.strip() for task in episode.tasks):
            raise DataError(f"{where}: tasks are {list(episode.tasks)}, expected an instruction")
        if not episode.table.is_file():
            raise DataError(
                f"{episode.table}: no such file; {INFO} and the metadata of episode {episode.index} name it"
            )
        for key in map(self.image_key, cameras):
            span = episode.videos.get(key)
            if span is None:
                continue
            if not span.file.is_file():
                raise DataError(
                    f"{span.file}: no such file; {INFO} and the metadata of episode {episode.index} name it"
                )
            if span.begin_s + (episode.length - 0.5) / self.fps > span.end_s:
                room = max(span.end_s - span.begin_s, 0.0) * self.fps
                said = f"the next one begins after {room:.0f} frames"
                raise DataError(
                    f"{span.file}: {key} of episode {episode.index} has {episode.length} frames, but {said}"
                )

    def names(self, key: str) -> list[str]:
        """Names of a feature's dimensions, or <key>.0, <key>.1, ... without names. Raises `UnknownNameError`."""
        if key not in self.features:
            raise UnknownNameError(f"feature of {self.root}", key, self.features)
        feature = self.features[key]
        width = math.prod(feature.get("shape") or [1])
        return dimension_names(feature.get("names"), width) or [f"{key}.{i}" for i in range(width)]

    def rows(self, episode: EpisodeFiles) -> pa.Table:
        """As `stored_rows`. Raises `DataError` also for time stamps that are not 1 / fps apart."""
        rows = self.stored_rows(episode)
        if gap := self.time_gap(episode, rows):
            raise DataError(f"{episode.table}: {gap}")
        return rows

    def stored_rows(self, episode: EpisodeFiles) -> pa.Table:
        """The episode's rows, one per frame, in order. Raises `DataError` for an unreadable file or missing frames."""
        table = read_table(episode.table)
        of_episode = column_of(episode.table, table, "episode_index").to_numpy() == episode.index
        rows = table.filter(pa.array(of_episode))
        if len(rows) != episode.length or episode.length == 0:
            found = f"{len(rows)} frames of episode {episode.index}"
            raise DataError(f"{episode.table}: {found}, the metadata say {episode.length}")
        return rows

    def time_gap(self, episode: EpisodeFiles, rows: pa.Table) -> str:
        """The time stamps that are furthest from 1 / fps apart, in words; "" if all are right."""
        steps = np.diff(column_of(episode.table, rows, "timestamp").to_numpy().astype(np.float64)) * self.fps
        if not len(steps) or np.abs(steps - 1).max() < 0.1:
            return ""
        t = int(np.abs(steps - 1).argmax())
        gap = f"{steps[t] / self.fps:.4f} s after frame {t}, expected {1 / self.fps:.4f} s"
        return f"timestamp of episode {episode.index}: {gap}"

    def numbers(self, episode: EpisodeFiles, rows: pa.Table, key: str) -> Floats32:
        """(T, D) of one feature. Raises `DataError` for ragged rows, another width or values that are not finite."""
        values = column_of(episode.table, rows, key).to_pylist()
        width = len(self.names(key))
        where = f"{episode.table}: {key} of episode {episode.index}"
        lengths = [np.size(value) if value is not None else 0 for value in values]
        odd = next((t for t, length in enumerate(lengths) if length != lengths[0]), None)
        if odd is not None:
            raise DataError(f"{where}: rows of different lengths ({lengths[0]}, at frame {odd} {lengths[odd]})")
        if lengths and lengths[0] != width:
            raise DataError(f"{where}: {lengths[0]} dimensions, {INFO} says {width}")
        try:
            with np.errstate(over="ignore"):
                array = np.asarray(values, np.float32).reshape(len(values), -1)
        except (ValueError, TypeError) as error:
            raise DataError(f"{where}: holds no numbers ({first_line(error)})") from error
        if not np.isfinite(array).all():
            t = int(np.flatnonzero(~np.isfinite(array).all(1))[0])
            raise DataError(f"{where}: frame {t} holds values that are not finite")
        return array

    def images(self, episode: EpisodeFiles, rows: pa.Table, camera: str, frames: Sequence[int]) -> Iterator[Image]:
        """(H, W, 3) uint8 of ascending frames. Raises `DataError` naming an undecodable video or picture."""
        key = self.image_key(camera)
        if self.features[key]["dtype"] == "video":
            span = episode.videos[key]
            try:
                yield from decode_frames(span.file, [span.begin_s + t / self.fps for t in frames], self.fps)
            except DataError as error:
                raise DataError(f"{error}, of episode {episode.index}") from error
            return
        column = column_of(episode.table, rows, key)
        for t in frames:
            where = f"{episode.table}: {key} of episode {episode.index}, frame {t}"
            yield read_picture(where, self._source(where, column[t].as_py()))

    def _source(self, where: str, stored: Any) -> bytes | Path:
        """The picture in a cell of a table: its bytes or its path."""
        content, path = (stored.get("bytes"), stored.get("path")) if isinstance(stored, dict) else (None, None)
        if isinstance(content, bytes) and content:
            return content
        if not isinstance(path, str):
            raise DataError(f"{where}: no readable picture (neither bytes nor a path)")
        return self._inside(path)

    def check_stats(self, keys: Iterable[str]) -> None:
        """Raise `DataError` if stats.json holds a number of these features that is not finite."""
        path = self.root / STATS
        values = read_json(path) if path.exists() else {}
        for key in keys:
            if not isinstance(values.get(key, {}), dict):
                raise DataError(f"{path}: {key} holds a {type(values[key]).__name__}, expected an object")
            for name, numbers in values.get(key, {}).items():
                try:
                    finite = np.isfinite(np.asarray(numbers, np.float64)).all()
                except (ValueError, TypeError) as error:
                    raise DataError(f"{path}: {name} of {key} holds no numbers ({first_line(error)})") from error
                if not finite:
                    raise DataError(f"{path}: {name} of {key} holds values that are not finite")

    def image_key(self, camera: str) -> str:
        """The feature of a camera. Raises `UnknownNameError`."""
        for key in (IMAGE_PREFIX + camera, camera):
            if key in self.features:
                return key
        raise UnknownNameError(f"camera of {self.root}", camera, self.cameras)

    # -- metadata

    def _inside(self, relative: str) -> Path:
        """A path in the dataset. Raises `DataError` for one that leads out of it."""
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise DataError(f"{self.root / INFO}: the path {relative!r} leads out of the dataset")
        return path

    def _path(self, field: str, **values: Any) -> Path:
        template = read_field(self.root / INFO, self._info, field, str)
        try:
            return self._inside(template.format(**values))
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            raise DataError(
                f"{self.root / INFO}: {field} is {template!r}, cannot be filled in ({first_line(error)})"
            ) from error

    def _video_keys(self) -> list[str]:
        return [key for key, feature in self.features.items() if feature.get("dtype") == "video"]

    def _episodes_v3(self) -> Iterator[EpisodeFiles]:
        for file in sorted((self.root / "meta/episodes").rglob("*.parquet")):
            for row in read_table(file).to_pylist():
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
                    raise DataError(
                        f"{file}: {first_line(error)} in the row of episode {row.get('episode_index')}"
                    ) from error

    def _span_v3(self, row: dict[str, Any], key: str) -> VideoSpan:
        place = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
        file = self._path("video_path", video_key=key, **place)
        return VideoSpan(file=file, begin_s=float(row[f"videos/{key}/from_timestamp"]), end_s=math.inf)

    def _episodes_v2(self) -> Iterator[EpisodeFiles]:
        file = self.root / "meta/episodes.jsonl"
        per_chunk = int(read_field(self.root / INFO, self._info, "chunks_size", int))
        for row in read_json_lines(file):
            try:
                index, length, tasks = int(row["episode_index"]), int(row["length"]), _tasks(row)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{file}: {first_line(error)} in the row of episode {row.get('episode_index')}"
                ) from error
            place = {"episode_chunk": index // per_chunk, "episode_index": index}
            videos = {
                key: VideoSpan(file=self._path("video_path", video_key=key, **place), begin_s=0.0, end_s=math.inf)
                for key in self._video_keys()
            }
            table = self._path("data_path", **place)
            yield EpisodeFiles(index=index, length=length, tasks=tasks, table=table, videos=videos)


def _bounded(episodes: Iterable[EpisodeFiles]) -> list[EpisodeFiles]:
    """The episodes, each span of a video ended where the next one of the same file begins."""
    episodes = list(episodes)
    begins: dict[Path, list[float]] = defaultdict(list)
    for episode in episodes:
        for span in episode.videos.values():
            begins[span.file].append(span.begin_s)
    sorted_begins = {file: np.sort(values) for file, values in begins.items()}

    def ended(span: VideoSpan) -> VideoSpan:
        later = sorted_begins[span.file]
        i = int(np.searchsorted(later, span.begin_s)) + 1
        return replace(span, end_s=float(later[i]) if i < len(later) else math.inf)

    return [replace(one, videos={key: ended(span) for key, span in one.videos.items()}) for one in episodes]


def _is_depth(feature: dict[str, Any]) -> bool:
    marks = (feature.get("info") or {}) | (feature.get("video_info") or {})
    return bool(marks.get("is_depth_map") or marks.get("video.is_depth_map"))


def _tasks(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(task) for task in row["tasks"])
