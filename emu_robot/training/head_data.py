"""Replay buffer -> training batches of the action head, by numpy array lookups until the last step.

Of an episode with interventions only these are learned from, as HG-DAgger does: the other actions are the policy's.

An example is a stored image frame t, the clean actions from t on, and the progress of the episode. Goals come from
around the keyframe of t's subtask. Suffixes: N frames, M images, K subtasks, E episodes, B batch.
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
    """Completed subtasks, in order, with global frames."""

    start_K: Ints
    """First frame."""
    keyframe_K: Ints
    """Keyframe."""
    end_K: Ints
    """Frame after the last one, where the next subtask starts."""
    episode_K: Ints
    """Number of the episode."""
    text_K: list[str]
    """The subtask in words."""
    instruction_K: list[str]
    """The whole task in words."""

    def at(self, frame: Ints) -> Ints:
        """The subtask of each frame; -1 if none."""
        segment = np.searchsorted(self.start_K, frame, side="right") - 1
        return np.where((segment < 0) | (frame >= self.end_K[segment]), -1, segment)


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """The data of a replay buffer that the head learns from. All but the images is in memory."""

    state: Floats32
    """(N, S) state of each frame."""
    action: Floats32
    """(N, A) action of each frame."""
    rates: NDArray[np.bool_]
    """(A,) dimensions that are deltas or velocities, see `RobotLayout`."""
    frame_M: Ints
    """Frame of each image."""
    segment_M: Ints
    """Completed subtask of each image; -1 if none."""
    keyframe_image_K: Ints
    """Image row of each subtask's keyframe."""
    taught_end_N: Ints
    """(N,) frame after the last one whose action may follow in a chunk: the end of the episode, or of the intervention;
    -1 for a frame that is not learned from."""
    intervened_N: NDArray[np.bool_]
    """(N,) whether a person corrected a policy."""
    event_N: Ints
    """(N,) next gripper event or subtask end after each frame."""
    segments: Segments
    """The completed subtasks."""
    images: dict[str, MappedImages]
    """Camera -> (M, H, W, 3) uint8."""

    @classmethod
    def load(cls, buffer: ReplayBuffer, cameras: Sequence[str]) -> "Demonstrations":
        """Read a buffer. The first camera is the planner's.

        Raises `DataError` if no subtask was completed or episodes have no actions, `UnknownNameError` for a camera.
        """
        buffer.require_actions()
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
            taught_end_N=taught_ends(buffer),
            intervened_N=intervened_frames(buffer),
            event_N=_events(action[:, action.shape[1] - buffer.layout.n_grippers :], segments, ends),
            segments=segments,
            images={camera: buffer.images(camera) for camera in cameras},
        )

    @property
    def goal_view(self) -> MappedImages:
        """Images of the first camera, which shows the goals."""
        return next(iter(self.images.values()))

    def last_frames(self, frame_B: Ints, segment_B: Ints) -> Ints:
        """(B,) last frame whose action may stand in a chunk that pursues this subtask from each frame on."""
        return np.minimum(self.segments.keyframe_K[segment_B], self.taught_end_N[frame_B] - 1)

    def chunks(self, frame_B: Ints, last_B: Ints, horizon: int) -> Floats32:
        """(B, T, A) actions from each frame on. After the last allowed one deltas and velocities are 0, others stay."""
        frame_BT = frame_B[:, None] + np.arange(horizon)
        chunk_BTA = self.action[np.minimum(frame_BT, last_B[:, None])]
        chunk_BTA[(frame_BT > last_B[:, None])[..., None] & self.rates] = 0.0
        return chunk_BTA

    def coming_events(self, frame_B: Ints, last_B: Ints, count: int) -> Ints:
        """(B, count) frames of the next gripper events after each frame; the segment's end if there is none."""
        events = []
        for _ in range(count):
            frame_B = np.minimum(self.event_N[frame_B], last_B)
            events.append(frame_B)
        return np.stack(events, axis=1)

    def norm_stats(self, horizon: int, relative: RelativeActions, keyposes: int, frame: Ints) -> NormStats:
        """Statistics of the examples at these frames, which lie within completed subtasks."""
        last = self.last_frames(frame, self.segments.at(frame))
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


def intervened_frames(buffer: ReplayBuffer) -> NDArray[np.bool_]:
    """(N,) whether a person corrected a policy at each frame of a buffer."""
    flags = np.zeros(buffer.n_frames, np.bool_)
    for begin, after, _ in _interventions(buffer):
        flags[begin:after] = True
    return flags


def taught_ends(buffer: ReplayBuffer) -> Ints:
    """`Demonstrations.taught_end_N` of a buffer."""
    ends = buffer.episode_ends
    taught_end_N = np.repeat(ends, np.diff(ends, prepend=0))
    runs = _interventions(buffer)
    for episode in {run.episode for run in runs}:
        taught_end_N[ends[episode - 1] if episode else 0 : ends[episode]] = -1
    for begin, after, _ in runs:
        taught_end_N[begin:after] = after
    return taught_end_N


class _Run(NamedTuple):
    begin: int
    after: int
    episode: int


def _interventions(buffer: ReplayBuffer) -> list[_Run]:
    """The interventions of all episodes, in global frames."""
    begins = [0, *buffer.episode_ends.tolist()]
    return [
        _Run(begins[episode] + begin, begins[episode] + after, episode)
        for episode, meta in enumerate(buffer.metadata)
        for begin, after in meta.get("interventions", ())
    ]


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
    """(N,) next frame after each frame at which a gripper gets a new command or a subtask is complete."""
    n_frames = len(grippers_NG)
    closed = grippers_NG < (grippers_NG.min(0) + grippers_NG.max(0)) / 2
    switches = np.flatnonzero((closed[1:] != closed[:-1]).any(1)) + 1
    marks = np.unique(np.concatenate([switches, segments.keyframe_K, ends - 1]))
    return marks[np.minimum(np.searchsorted(marks, np.arange(n_frames), side="right"), len(marks) - 1)]
