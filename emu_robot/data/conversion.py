"""One episode of a LeRobotDataset as an `Episode`: chosen cameras and dimensions, another rate, another picture size.

Suffixes: T frames, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emu_robot.core import Floats32
from emu_robot.data.episode import Episode
from emu_robot.data.labels import Captioner, LabelSource, Segmentation
from emu_robot.data.lerobot_files import EpisodeFiles, LeRobotFiles, camera_name
from emu_robot.errors import ConfigError, UnknownNameError
from emu_robot.observation.image_fit import ImageFit, fit_image
from emu_robot.robots.spec import RobotLayout

FOLLOWS = 0.9
"""Correlation from which an action dimension counts as a target of the state dimension in its place."""


class Column(NamedTuple):
    """Dimension `index` of a feature."""

    feature: str
    index: int
    name: str


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What becomes of a set's features. cameras: our name -> the set's; state, action: dimensions, grippers last;
    n_grippers: how many those are, in both. hz: rate of the result [Hz].
    """

    cameras: dict[str, str]
    state: tuple[Column, ...]
    action: tuple[Column, ...]
    n_grippers: int
    hz: int
    image_size: int
    fit: ImageFit
    image_every: int

    def numbers(self, files: LeRobotFiles, episode: EpisodeFiles, rows: pa.Table) -> tuple[Floats32, Floats32]:
        """State and action of an episode, (T, D) each, at the set's own rate."""
        return _gather(files, episode, rows, self.state), _gather(files, episode, rows, self.action)

    def layout(self, states: Sequence[Floats32], actions: Sequence[Floats32]) -> RobotLayout:
        """Names, and which actions are targets of the state: told from the numbers, as names differ between sets."""
        n_arm = len(self.action) - self.n_grippers
        state, action = np.concatenate(states), np.concatenate(actions)
        follows = len(self.state) == len(self.action) and all(
            _correlation(state[:, i], action[:, i]) >= FOLLOWS for i in range(n_arm)
        )
        return RobotLayout(
            state_names=tuple(column.name for column in self.state),
            action_names=tuple(column.name for column in self.action),
            n_grippers=self.n_grippers,
            relative_dims=n_arm if follows else 0,
        )


def choose_columns(
    files: LeRobotFiles, features: Sequence[str], names: Sequence[str], grippers: Sequence[str]
) -> tuple[tuple[Column, ...], int]:
    """The dimensions of some features called `names` (none: all), grippers last, and how many these are.

    grippers: their names; none means those with "gripper" in it. Raises `UnknownNameError`.
    """
    known = [Column(feature, i, name) for feature in features for i, name in enumerate(files.names(feature))]
    by_name = {column.name: column for column in known}
    for name in (*names, *grippers):
        if name not in by_name:
            raise UnknownNameError(f"dimension of {', '.join(features)} in {files.root}", name, by_name)
    kept = [by_name[name] for name in names] or known
    is_gripper = [column.name in grippers if grippers else "gripper" in column.name.lower() for column in kept]
    arm = [column for column, last in zip(kept, is_gripper, strict=True) if not last]
    hands = [column for column, last in zip(kept, is_gripper, strict=True) if last]
    return (*arm, *hands), len(hands)


def choose_cameras(files: LeRobotFiles, wanted: dict[str, str]) -> dict[str, str]:
    """Our name -> the set's, checked; all of the set's if none is wanted. Raises `UnknownNameError`, `ConfigError`."""
    for camera in wanted.values():
        if camera not in files.cameras:
            raise UnknownNameError(f"camera of {files.root}", camera, files.cameras)
    if not files.cameras:
        raise ConfigError(f"{files.root}: has no camera; its features are {', '.join(files.features)}")
    return dict(wanted) or {camera_name(name): name for name in files.cameras}


class Converter:
    """Converts episodes of one dataset."""

    def __init__(self, files: LeRobotFiles, conversion: Conversion, captioner: Captioner | None = None) -> None:
        self._files, self._conversion, self._captioner = files, conversion, captioner

    def convert(self, episode: EpisodeFiles, found: Segmentation) -> Episode:
        """The episode with its subtasks; `found` counts frames at the set's rate.

        Subtasks found in motion are worded by the captioner, if there is one.
        """
        conversion, rows = self._conversion, self._files.rows(episode)
        state, action = conversion.numbers(self._files, episode, rows)
        frame_T = np.arange(0, len(state) - 0.5, self._files.fps / conversion.hz)  # of the set, between two of them
        keyframes = np.searchsorted(frame_T, found.keyframes).clip(max=len(frame_T) - 1).astype(np.int32)
        starts = np.concatenate([[0], np.maximum(np.searchsorted(frame_T, found.starts[1:]), keyframes[:-1] + 1)])
        stored = np.unique([*range(0, len(frame_T), conversion.image_every), *starts, *keyframes]).astype(np.int32)
        shown = frame_T[stored].round().astype(int).tolist()
        images = {
            name: np.stack(
                [
                    fit_image(image, conversion.image_size, conversion.fit)
                    for image in self._files.images(episode, rows, camera, shown)
                ]
            )
            for name, camera in conversion.cameras.items()
        }
        success = _success(rows)
        words = found.subtasks
        if self._captioner is not None and found.source is LabelSource.motion:
            pairs = np.searchsorted(stored, np.stack([starts, keyframes], 1))
            words = tuple(self._caption(images, pair, episode.tasks[0]) for pair in pairs)
        return Episode(
            instruction=episode.tasks[0],
            family=self._files.root.name,
            split="seen",
            seed=episode.index,
            success=success,
            fps=conversion.hz,
            subtasks=words,
            keyframes=keyframes if success else keyframes[:-1],
            starts=starts.astype(np.int32),
            state=_resample(frame_T, state, conversion.n_grippers),
            action=_resample(frame_T, action, conversion.n_grippers),
            image_frames=stored,
            images=images,
        )

    def _caption(self, images: dict[str, NDArray[np.uint8]], pair: NDArray[np.int64], instruction: str) -> str:
        """What the captioner says of the first camera's pictures at a subtask's start and keyframe."""
        assert self._captioner is not None
        first, last = next(iter(images.values()))[pair]
        words = self._captioner(first, last, instruction)
        if not isinstance(words, str) or not words.strip():
            raise ConfigError(f"the captioner answered {words!r} to {instruction!r}, expected words")
        return words


def _gather(files: LeRobotFiles, episode: EpisodeFiles, rows: pa.Table, columns: Sequence[Column]) -> Floats32:
    features = {name: files.numbers(episode, rows, name) for name in dict.fromkeys(c.feature for c in columns)}
    return np.stack([features[column.feature][:, column.index] for column in columns], 1)


def _resample(frame_T: NDArray[np.floating], values: Floats32, n_grippers: int) -> Floats32:
    """Values (T, D) between frames: linear, the last `n_grippers` dimensions as they last were."""
    before = np.floor(frame_T).astype(int)
    after, share = np.minimum(before + 1, len(values) - 1), (frame_T - before)[:, None]
    mixed = (1 - share) * values[before] + share * values[after]
    n_arm = values.shape[1] - n_grippers
    return np.concatenate([mixed[:, :n_arm], values[before, n_arm:]], 1).astype(np.float32)


def _success(rows: pa.Table) -> bool:
    """Whether the set says at any frame that the episode succeeded; a set that says nothing holds demonstrations."""
    if "next.success" not in rows.column_names:
        return True
    return bool(np.any(rows.column("next.success").to_pylist()))


def _correlation(a: Floats32, b: Floats32) -> float:
    """Of two dimensions; 1 where neither changes."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float(np.ptp(a) == np.ptp(b))
    return float(np.corrcoef(a, b)[0, 1])
