"""Replay buffer -> training batches of the action head. Numpy until the last step; everything is an array lookup.

What an example is: a stored image frame t, the clean actions from t on, and how far the episode had come. Goals come
from around the keyframe of t's subtask. Suffixes: N frames, M images, K subtasks, E episodes, B batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats32
from emu_robot.data.mapped_images import MappedImages
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError
from emu_robot.models.normalize import NormStats, RelativeActions, Standardizer

type Ints = NDArray[np.int64]


class Segments(NamedTuple):
    """Completed subtasks, in order; frames are global. Each ends (exclusive) where the next one starts."""

    start_K: Ints
    keyframe_K: Ints
    end_K: Ints
    episode_K: Ints
    text_K: list[str]
    instruction_K: list[str]

    def at(self, frame: Ints) -> Ints:
        """Which one each frame belongs to, -1 if none."""
        segment = np.searchsorted(self.start_K, frame, side="right") - 1
        return np.where((segment < 0) | (frame >= self.end_K[segment]), -1, segment)


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """A replay buffer as the head sees it, in memory but for the images.

    state (N, S), action (N, A); rates (A,): see `RobotLayout`; frame_M: frame of each image; segment_M: its completed
    subtask, -1 if none; goals_M: image row of each segment's keyframe; images: camera -> (M, H, W, 3) uint8;
    episode_end_N.
    """

    state: Floats32
    action: Floats32
    rates: NDArray[np.bool_]
    frame_M: Ints
    segment_M: Ints
    keyframe_image_K: Ints
    episode_end_N: Ints
    event_N: Ints
    segments: Segments
    images: dict[str, MappedImages]

    @classmethod
    def load(cls, buffer: ReplayBuffer, cameras: Sequence[str]) -> "Demonstrations":
        """Read everything; the first camera is the planner's.

        Raises `DataError` when no subtask was completed, `UnknownNameError` for a camera.
        """
        segments = _segments(buffer)
        if not segments.text_K:
            raise DataError(f"{buffer.path}: no completed subtask in {buffer.n_episodes} episodes")
        state, action = buffer.load("frames/state"), buffer.load("frames/action")
        frame_M = buffer.load("images/frame").astype(np.int64)
        ends = buffer.episode_ends
        return cls(
            state=state,
            action=action,
            rates=buffer.layout.rates,
            frame_M=frame_M,
            segment_M=segments.at(frame_M),
            keyframe_image_K=np.searchsorted(frame_M, segments.keyframe_K),
            episode_end_N=np.repeat(ends, np.diff(ends, prepend=0)),
            event_N=_events(action[:, action.shape[1] - buffer.layout.n_grippers :], segments, ends),
            segments=segments,
            images={camera: buffer.images(camera) for camera in cameras},
        )

    @property
    def goal_view(self) -> MappedImages:
        """Images of the first camera, in whose view goals are shown."""
        return next(iter(self.images.values()))

    def chunks(self, frame_B: Ints, last_B: Ints, horizon: int) -> Floats32:
        """(B, T, A) actions from each frame on. After the last one allowed they hold: deltas and velocities are 0, all
        others stay as they are there."""
        frame_BT = frame_B[:, None] + np.arange(horizon)
        chunk_BTA = self.action[np.minimum(frame_BT, last_B[:, None])]
        chunk_BTA[(frame_BT > last_B[:, None])[..., None] & self.rates] = 0.0
        return chunk_BTA

    def coming_events(self, frame_B: Ints, last_B: Ints, count: int) -> Ints:
        """(B, count) frames of the next gripper events after each frame, or of the segment's end where none is left."""
        events = []
        for _ in range(count):
            frame_B = np.minimum(self.event_N[frame_B], last_B)
            events.append(frame_B)
        return np.stack(events, axis=1)

    def norm_stats(self, horizon: int, relative: RelativeActions, keyposes: int, frame: Ints) -> NormStats:
        """Statistics of the examples at these frames, which lie within completed subtasks."""
        last = self.segments.keyframe_K[self.segments.at(frame)]
        state = self.state[frame]
        chunks = self.chunks(frame, last, horizon)
        poses = self.state[self.coming_events(frame, np.maximum(last, frame), keyposes)] - state[:, None]
        return NormStats(
            state=Standardizer.fit(state),
            actions=Standardizer.fit(relative.encode(chunks, state)),
            keyposes=Standardizer.fit(poses),
            action_low=self.action.min(0),
            action_high=self.action.max(0),
            segment_steps_p90=float(np.percentile(self.segments.keyframe_K - self.segments.start_K, 90)),
        )


def _segments(buffer: ReplayBuffer) -> Segments:
    columns: dict[str, list[Any]] = {name: [] for name in Segments._fields}
    begin = 0
    for episode, (meta, end) in enumerate(zip(buffer.metadata, buffer.episode_ends.tolist(), strict=True)):
        starts = [begin + start for start in meta["starts"]]
        for k, keyframe in enumerate(meta["keyframes"]):
            row = (
                *(starts[k], begin + keyframe, starts[k + 1] if k + 1 < len(starts) else end),
                *(episode, meta["subtasks"][k], meta["instruction"]),
            )
            for name, value in zip(Segments._fields, row, strict=True):
                columns[name].append(value)
        begin = end
    arrays = {name: np.asarray(columns[name], np.int64) for name in Segments._fields[:4]}
    return Segments(**arrays, text_K=columns["text_K"], instruction_K=columns["instruction_K"])


def _events(grippers_NG: Floats32, segments: Segments, ends: Ints) -> Ints:
    """(N,) the next frame after each one at which a gripper is told to open or close, or a subtask is complete."""
    n_frames = len(grippers_NG)
    closed = grippers_NG < (grippers_NG.min(0) + grippers_NG.max(0)) / 2
    switches = np.flatnonzero((closed[1:] != closed[:-1]).any(1)) + 1
    marks = np.unique(np.concatenate([switches, segments.keyframe_K, ends - 1]))
    return marks[np.minimum(np.searchsorted(marks, np.arange(n_frames), side="right"), len(marks) - 1)]
