"""Convert an episode of a LeRobotDataset to an `Episode`: choose cameras and dimensions, change rate and picture size.

Suffixes: T frames, D dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emu_robot.core import Floats32
from emu_robot.data.columns import Column
from emu_robot.data.dimensions import Dimensions
from emu_robot.data.episode import Episode, check_camera_name
from emu_robot.data.labels import Captioner, LabelSource, Segmentation
from emu_robot.data.lerobot_files import EpisodeFiles, LeRobotFiles
from emu_robot.data.lerobot_names import camera_names
from emu_robot.data.resampling import frames_at, frames_before, resample
from emu_robot.errors import ConfigError, DataError, UnknownNameError
from emu_robot.observation.image_fit import ImageFit, fit_image
from emu_robot.robots.order import order_of
from emu_robot.robots.spec import ActionKind, DimensionKind, RobotLayout

INTERVENTION = "intervention"
"""Feature of a frame in which a person corrected a policy; its name is LeRobot's."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """How the features of a set are converted."""

    cameras: Mapping[str, str]
    """Our name of each camera -> the set's."""
    dimensions: Dimensions
    hz: int
    """Rate of the result [Hz]; the set's own rate, rounded, changes nothing."""
    image_size: int
    """Side of the square pictures [px]."""
    fit: ImageFit
    image_every: int
    use_success: bool = True
    """Where the set has next.success: an episode without it at any frame failed."""

    def numbers(self, files: LeRobotFiles, episode: EpisodeFiles, rows: pa.Table) -> tuple[Floats32, Floats32]:
        """State and action of an episode, (T, D) each, at the set's own rate."""
        dimensions = self.dimensions
        return _gather(files, episode, rows, dimensions.state), _gather(files, episode, rows, dimensions.action)

    def settled(self, files: LeRobotFiles, states: Sequence[Floats32], actions: Sequence[Floats32]) -> "Conversion":
        """This conversion, the kind of each dimension read from all numbers.

        Raises `ConfigError` if resampling needs a kind that stays unknown.
        """
        dimensions = self.dimensions.settled(states, actions, files.fps)
        if dimensions.unknown and self.hz != round(files.fps):
            raise ConfigError(
                f"{files.root}: control_hz={self.hz} from {files.fps:g} Hz, but neither names nor motion tell whether "
                f"{', '.join(dimensions.unknown)} are positions or deltas; say it: kinds.delta=[action.*]"
            )
        return replace(self, dimensions=dimensions)

    def layout(self, states: Sequence[Floats32], actions: Sequence[Floats32]) -> RobotLayout:
        """Names, kinds and places, and the actions that are targets of the state, as the numbers show."""
        dimensions = self.dimensions
        relative_dims = dimensions.relative_dims(states, actions)
        is_rate = any(column.kind and column.kind.is_rate for column in dimensions.action)
        return RobotLayout(
            state_names=tuple(column.name for column in dimensions.state),
            action_names=tuple(column.name for column in dimensions.action),
            n_grippers=dimensions.n_grippers,
            relative_dims=relative_dims,
            action_kind=ActionKind.DELTA if is_rate else ActionKind.TARGET if relative_dims else ActionKind.UNKNOWN,
            state_kinds=tuple(column.kind or DimensionKind.position for column in dimensions.state),
            action_kinds=tuple(column.kind or DimensionKind.position for column in dimensions.action),
            state_order=order_of([column.place for column in dimensions.state]),
            action_order=order_of([column.place for column in dimensions.action]),
            unused_actions=dimensions.left_out,
        )

    def frames(self, n_frames: int, fps: float) -> NDArray[np.float64]:
        """(N,) frames of the set, as fractions, that become the frames of the result."""
        return frames_at(n_frames, 1.0, 1.0) if self.hz == round(fps) else frames_at(n_frames, fps, self.hz)


def choose_cameras(files: LeRobotFiles, wanted: Mapping[str, str]) -> dict[str, str]:
    """Our name -> the set's, checked; all cameras of the set if none is wanted.

    Raises `UnknownNameError` for an unknown camera, `DataError` for one without colour pictures, `ConfigError` if there
    is no camera.
    """
    for ours, camera in wanted.items():
        check_camera_name(f"cameras.{ours}", ours)
        if camera in files.left_out:
            raise DataError(f"{files.root}: camera {camera} {files.left_out[camera]}")
        if camera not in files.cameras:
            raise UnknownNameError(f"camera of {files.root}", camera, files.cameras)
    if not files.cameras:
        others = "".join(f"; {camera} {why}" for camera, why in files.left_out.items())
        raise ConfigError(f"{files.root}: has no camera{others}; its features are {', '.join(files.features)}")
    return dict(wanted) or camera_names(files.cameras)


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
        frame_T = conversion.frames(len(state), self._files.fps)
        keyframes = np.searchsorted(frame_T, found.keyframes).clip(max=len(frame_T) - 1).astype(np.int32)
        starts = np.concatenate([[0], np.maximum(np.searchsorted(frame_T, found.starts[1:]), keyframes[:-1] + 1)])
        stored = np.unique([*range(0, len(frame_T), conversion.image_every), *starts, *keyframes]).astype(np.int32)
        shown = frames_before(frame_T[stored]).tolist()
        images = {
            name: np.stack(
                [
                    fit_image(image, conversion.image_size, conversion.fit)
                    for image in self._files.images(episode, rows, camera, shown)
                ]
            )
            for name, camera in conversion.cameras.items()
        }
        success = not conversion.use_success or says_success(rows) is not False
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
            state=resample(frame_T, state, conversion.dimensions.state, measured=True),
            action=resample(frame_T, action, conversion.dimensions.action),
            image_frames=stored,
            images=images,
            interventions=runs_of(intervened(rows)[frames_before(frame_T)]),
        )

    def _caption(self, images: dict[str, NDArray[np.uint8]], pair: NDArray[np.int64], instruction: str) -> str:
        """The captioner's words for the first camera's pictures at a subtask's start and keyframe."""
        assert self._captioner is not None
        first, last = next(iter(images.values()))[pair]
        words = self._captioner(first, last, instruction)
        if not isinstance(words, str) or not words.strip():
            raise ConfigError(f"the captioner answered {words!r} to {instruction!r}, expected words")
        return words


def _gather(files: LeRobotFiles, episode: EpisodeFiles, rows: pa.Table, columns: Sequence[Column]) -> Floats32:
    features = {name: files.numbers(episode, rows, name) for name in dict.fromkeys(c.feature for c in columns)}
    return np.stack([features[column.feature][:, column.index] for column in columns], 1)


def intervened(rows: pa.Table) -> NDArray[np.bool_]:
    """(T,) whether a person corrected a policy at each frame; never in a set without the feature."""
    if INTERVENTION not in rows.column_names:
        return np.zeros(len(rows), np.bool_)
    return np.array([bool(np.any(value)) for value in rows.column(INTERVENTION).to_pylist()], np.bool_)


def runs_of(flags: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """(first, after the last) of each run of true flags."""
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return tuple((int(first), int(after)) for first, after in bounds.reshape(-1, 2))


def says_success(rows: pa.Table) -> bool | None:
    """Whether next.success is true at any frame; None without that column."""
    if "next.success" not in rows.column_names:
        return None
    return bool(np.any([np.any(value) for value in rows.column("next.success").to_pylist() if value is not None]))
