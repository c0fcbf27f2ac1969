"""Find where subtasks end in unlabelled episodes: at rest, at grips and releases, at pauses, at bends of the path.

A keyframe is the frame at which a subtask is complete. Knows neither images nor words.
Suffixes: T frames of an episode, S state dimensions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats32
from emu_robot.errors import ConfigError, DataError
from emu_robot.shared.settings import check_ranges, number

type Frames = NDArray[np.int32]

RETURNS = 0.8
"""Least share of episodes that allow a method, for `auto` to choose it."""
GRIPPER_NEAR = 0.25
"""Largest distance of a gripper from its rest position at which it counts as there, as a share of its range."""
GRIPPER_MOVES = 0.02
"""Least change per frame of a gripper that moves, as a share of its range."""
FAST, SLOW = 99, 0.1
"""Percentile of all speeds that counts as fast, and the share of it from which on the robot is under way. The usual
speed counts only such frames, since most frames may be rests."""
SETTLED = 0.1
"""Share of the usual speed below which the robot has come to rest."""


MIRRORED = 0.25
"""Share of its range up to which the numbers of a mirrored finger may rise above 0."""
STROKE = 8
"""Least number of frames, on average over all, in which a gripper goes through its range. What is faster is noise."""
LEAST_MOTION = 0.2
"""Least spread of a dimension in a task, as a share of its spread in the set. What moves less is taken as noise."""


class KeyframeMethod(StrEnum):
    """What ends a subtask.

    rest: the robot is back where episodes begin and end, its gripper as it was then. gripper: it opened or closed (as
    in PerAct and RVT). pause: the robot stands nearly still. waypoint: straight lines between the keyframes stay near
    the path (AWE, Shi et al. 2023). auto: the first of these that the episodes of a task allow.
    """

    auto = "auto"
    rest = "rest"
    gripper = "gripper"
    pause = "pause"
    waypoint = "waypoint"


@dataclass(frozen=True, kw_only=True)
class KeyframeConfig:
    """How keyframes are found. Radius, speed and error are root mean squares over the moving dimensions, each divided
    by its standard deviation in the set."""

    method: KeyframeMethod = KeyframeMethod.auto
    """What ends a subtask; auto: for each task the first of the others that its episodes allow."""
    min_seconds: float = number(0.75, above=0)
    """Shortest time between two keyframes [s]; see `min_share`."""
    min_share: float = number(0.2, high=1, above=0)
    """The same as a share of a short episode (25th percentile) of the task. The smaller of the two times holds."""
    rest_radius: float = number(0.35, above=0)
    """Distance from the rest pose within which the robot is at rest."""
    pause_speed: float = number(0.3, above=0)
    """Speed below which the robot stands still, as a share of the 75th percentile of the speeds under way."""
    waypoint_error: float = number(0.5, above=0)
    """Largest distance of the path from straight lines between waypoints."""

    def __post_init__(self) -> None:
        check_ranges(self, "keyframes")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        if self.method is KeyframeMethod.auto:
            return {}
        idle: dict[str, str] = dict.fromkeys(("rest_radius", "pause_speed", "waypoint_error"), f"method={self.method}")
        for key in USED_BY[self.method]:
            idle.pop(key)
        return idle


USED_BY = {
    KeyframeMethod.rest: ("rest_radius",),
    KeyframeMethod.gripper: (),
    KeyframeMethod.pause: ("pause_speed",),
    KeyframeMethod.waypoint: ("waypoint_error",),
}
"""Setting -> the only method that uses it."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How far each state dimension moves."""

    std_S: Floats32
    """Standard deviation."""
    low_S: Floats32
    """1st percentile."""
    high_S: Floats32
    """99th percentile."""

    @classmethod
    def of(cls, states: Sequence[Floats32]) -> "Spread":
        """The spread of these episodes, (T, S) each."""
        everything = np.concatenate(states)
        low_S, high_S = np.percentile(everything, [1, 99], axis=0).astype(np.float32)
        return cls(std_S=everything.std(0), low_S=low_S, high_S=high_S)

    @property
    def range_S(self) -> Floats32:
        """Distance from the 1st to the 99th percentile."""
        return self.high_S - self.low_S


class KeyframeFinder:
    """Finds keyframes in episodes of one kind. The constructor measures the usual speeds and poses.

    method: the method in use, never `auto`.
    """

    def __init__(
        self,
        states: Sequence[Floats32],
        grippers: Sequence[int],
        fps: float,
        config: KeyframeConfig,
        whole: Sequence[Floats32] = (),
    ) -> None:
        """states: (T, S) of every episode; grippers: which state dimensions are grippers. whole: the episodes of the
        whole set, if `states` are only some of them; robots rest alike in all tasks.

        Raises `DataError` if nothing ever moves, `ConfigError` for the method gripper without a gripper.
        """
        whole = whole or states
        self._whole, self._config, self._grippers = Spread.of(whole), config, list(grippers)
        moving = np.flatnonzero(self._whole.std_S > 1e-6).tolist()
        if not moving:
            raise DataError("no state dimension ever changes, so there are no keyframes to find")
        self._arm = [i for i in moving if i not in self._grippers]
        own = Spread.of(states)
        per_frame_S = np.mean(np.concatenate([np.abs(np.diff(state, axis=0)) for state in states]), axis=0)
        self._moves_S = (own.range_S >= LEAST_MOTION * self._whole.range_S) & (STROKE * per_frame_S <= own.range_S)
        self._range_S = np.where(self._moves_S, own.range_S, self._whole.range_S)
        self._middle_S = (own.low_S + own.high_S) / 2
        usual_s = float(np.percentile([len(state) for state in states], 25)) / fps
        self._gap = max(1, round(min(config.min_seconds, config.min_share * usual_s) * fps))
        self._measure(whole)
        self.method = self._rest(states)
        if self.method is not KeyframeMethod.rest:
            self._measure(states)
            self.method = self._choose(states)

    def _measure(self, states: Sequence[Floats32]) -> None:
        """Measure scales, rest pose and usual speeds of these episodes."""
        self._scale_S = np.maximum(np.maximum(Spread.of(states).std_S, LEAST_MOTION * self._whole.std_S), 1e-6)
        self._rest_S = np.median([state[t] for state in states for t in (0, -1)], axis=0)
        speeds = np.concatenate([self._speed(state) for state in states])
        under_way = speeds[speeds >= SLOW * np.percentile(speeds, FAST)]
        usual = float(np.percentile(under_way, 75))
        self._still, self._settled = self._config.pause_speed * usual, SETTLED * usual

    def find(self, state: Floats32) -> Frames:
        """(N,) ascending frames of an episode (T, S), each the first at which a subtask is complete.

        The end of all motion is always one of them.
        """
        return self._found(state, self.method)

    def cut(self, state: Floats32) -> tuple[Frames, Frames]:
        """(N,) keyframes of `find`, and (N,) first frames of the subtasks: where motion goes on after a rest."""
        keyframes, moves = self.find(state), self._moves(state)
        starts = [0]
        for keyframe, following in zip(keyframes[:-1].tolist(), keyframes[1:].tolist(), strict=True):
            rest = np.flatnonzero(moves[keyframe + 1 : following])
            starts.append(keyframe + 1 + (int(rest[0]) if rest.size else 0))
        return keyframes, np.array(starts, np.int32)

    def opened(self, state: Floats32) -> NDArray[np.bool_]:
        """(T, G) whether each gripper is in the open half of its range; the same all along for one that stays.

        Larger numbers are open, unless all are negative, as those of the second of two mirrored fingers are.
        """
        at = state[:, self._grippers]
        mirrored = self._whole.high_S < MIRRORED * self._whole.range_S
        above = (at >= self._middle_S[self._grippers]) != mirrored[self._grippers]
        return above | ~self._moves_S[self._grippers]

    def distance(self, state: Floats32, pose: Floats32) -> Floats32:
        """(T,) distance of the arm from a pose (S,), see `KeyframeConfig`."""
        return _rms((state - pose)[:, self._arm] / self._scale_S[self._arm])

    def _rest(self, states: Sequence[Floats32]) -> KeyframeMethod:
        """The method rest if it is given or if auto allows it, else the given one."""
        given = self._config.method
        if given is KeyframeMethod.auto and self._hold(
            self._at_rest(state[-1:])[0] and not self._at_rest(state).all() for state in states
        ):
            return KeyframeMethod.rest
        return given

    def _choose(self, states: Sequence[Floats32]) -> KeyframeMethod:
        """The given method, or for auto the first that is not rest and that the episodes allow."""
        given = self._config.method
        if given is KeyframeMethod.gripper and not self._grippers:
            raise ConfigError("keyframes.method=gripper, but no state dimension is a gripper; name it by grippers=")
        if given is not KeyframeMethod.auto:
            return given
        for method in (KeyframeMethod.gripper, KeyframeMethod.pause):
            if self._hold(self._cuts(state, method) for state in states):
                return method
        return KeyframeMethod.waypoint

    @staticmethod
    def _hold(each: Iterable[bool]) -> bool:
        """Whether something holds for most episodes."""
        return bool(np.mean(list(each)) >= RETURNS)

    def _cuts(self, state: Floats32, method: KeyframeMethod) -> bool:
        """Whether a method finds more in an episode than its end."""
        pauses = self._stretches(self._speed(state) < self._still)
        if method is KeyframeMethod.pause and not any(a > 0 and b < len(state) for a, b in pauses):
            return False
        return len(self._found(state, method)) > 1

    def _found(self, state: Floats32, method: KeyframeMethod) -> Frames:
        """`find` by a method."""
        found = self._bends(state) if method is KeyframeMethod.waypoint else self._moments(state, method)
        rests = method in (KeyframeMethod.rest, KeyframeMethod.pause)
        return self._spaced(found, self._end(state), rests)

    def _moments(self, state: Floats32, method: KeyframeMethod) -> list[int]:
        """The first frame at rest of every stretch in which a subtask may end."""
        speed = self._speed(state)
        if method is KeyframeMethod.gripper:
            switches = self._switches(state).tolist()
            stretches = [(t, min(t + self._gap, len(state))) for t in switches]
        else:
            there = self._at_rest(state) if method is KeyframeMethod.rest else speed < self._still
            stretches = [(a, b) for a, b in self._stretches(there) if a > 0]
        return [a + self._arrival(speed[a:b]) for a, b in stretches]

    def _arrival(self, speed: Floats32) -> int:
        """The first frame of a stretch at which the robot is about as still as it gets there."""
        return int(np.argmax(speed <= max(self._settled, 1.5 * np.percentile(speed, 25))))

    def _moves(self, state: Floats32) -> NDArray[np.bool_]:
        """(T,) whether arm or gripper move. Over several frames noise is small beside slow motion."""
        span = min(max(self._gap // 3, 1), len(state) - 1)
        from_T = np.minimum(np.arange(len(state)), len(state) - 1 - span)
        way = (state[from_T + span] - state[from_T])[:, self._arm] / self._scale_S[self._arm]
        speed = _rms(way) / max(span, 1)
        reach = GRIPPER_MOVES * self._range_S[self._grippers]
        turns = np.abs(np.diff(state[:, self._grippers], axis=0, append=state[-1:, self._grippers]))
        return (speed >= self._settled) | (turns > reach).any(1)

    def _end(self, state: Floats32) -> int:
        """The frame at which all motion ends."""
        moving = np.flatnonzero(self._moves(state))
        return min(int(moving[-1]) + 1, len(state) - 1) if moving.size else len(state) - 1

    def _bends(self, state: Floats32) -> list[int]:
        """Ends of straight lines that stay near the path (Douglas and Peucker). A line is split at the frame that is
        farthest from it."""
        path = state[:, self._arm] / self._scale_S[self._arm]
        bends, open_ = [], [(0, len(path) - 1)]
        while open_:
            a, b = open_.pop()
            share = np.linspace(0, 1, b - a + 1)[:, None]
            off = _rms(path[a : b + 1] - ((1 - share) * path[a] + share * path[b]))
            t = a + int(off.argmax())
            if off.max() > self._config.waypoint_error:
                bends.append(t)
                open_ += [(a, t), (t, b)]
        return sorted(bends)

    def _spaced(self, frames: list[int], last: int, rests: bool) -> Frames:
        """The frames that keep the least distance, and the end of all motion unless it is near the one before.

        A frame without rest is a step's end only if a step follows, so half the distance is far enough then.
        """
        kept: list[int] = []
        for t in frames:
            if t - (kept[-1] if kept else 0) >= self._gap and t <= last:
                kept.append(t)
        if not kept or last - kept[-1] >= (self._gap if rests else self._gap / 2):
            kept.append(last)
        return np.array(kept, np.int32)

    def _at_rest(self, state: Floats32) -> NDArray[np.bool_]:
        reach = GRIPPER_NEAR * self._range_S
        held = [np.abs(state[:, g] - self._rest_S[g]) <= reach[g] for g in self._grippers]
        return np.logical_and.reduce([self.distance(state, self._rest_S) < self._config.rest_radius, *held])

    def _switches(self, state: Floats32) -> Frames:
        """Frames at which a gripper crosses the middle of its range."""
        moved = [g for g in self._grippers if self._moves_S[g]]
        closed = state[:, moved] < self._middle_S[moved]
        return (np.flatnonzero((closed[1:] != closed[:-1]).any(1)) + 1).astype(np.int32)

    def _speed(self, state: Floats32) -> Floats32:
        """(T,) speed from each frame to the next."""
        step = np.diff(state[:, self._arm], axis=0) / self._scale_S[self._arm]
        return _rms(np.concatenate([step, step[-1:]])) if len(step) else np.zeros(1, np.float32)

    @staticmethod
    def _stretches(there: NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Begin and exclusive end of each unbroken run of True."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8)))
        return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _rms(values: NDArray[np.floating]) -> Floats32:
    return np.sqrt(np.square(values).mean(-1)) if values.shape[-1] else np.zeros(len(values), np.float32)
