"""Find where subtasks end in unlabelled episodes: at rest, at grips and releases, at pauses, at bends of the path.

A keyframe is the frame at which a subtask is complete. Knows neither images nor words.
Suffixes: T frames of an episode, S state dimensions.
"""

from collections.abc import Sequence
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


class KeyframeMethod(StrEnum):
    """What ends a subtask.

    rest: the robot is back where episodes begin and end, its gripper as it was then. gripper: it opened or closed (as
    in PerAct and RVT). pause: the robot stands nearly still. waypoint: straight lines between the keyframes stay near
    the path (AWE, Shi et al. 2023). auto: the first of these that the set allows.
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
    """What ends a subtask; auto: the first of the others that the set allows."""
    min_seconds: float = number(0.75, above=0)
    """Shortest time between two keyframes [s]."""
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


class KeyframeFinder:
    """Finds keyframes in the episodes of one dataset. The constructor measures the usual speeds and poses.

    method: the method in use, never `auto`.
    """

    def __init__(self, states: Sequence[Floats32], grippers: Sequence[int], fps: float, config: KeyframeConfig) -> None:
        """states: (T, S) of every episode; grippers: which state dimensions are grippers.

        Raises `DataError` if nothing ever moves, `ConfigError` for the method gripper without a gripper.
        """
        everything = np.concatenate(states)
        std_S = everything.std(0)
        if not (std_S > 1e-6).any():
            raise DataError("no state dimension ever changes, so there are no keyframes to find")
        self._grippers = list(grippers)
        self._arm = [i for i in np.flatnonzero(std_S > 1e-6).tolist() if i not in self._grippers]
        self._scale_S = np.maximum(std_S, 1e-6)
        self._low_S, self._high_S = np.percentile(everything, [1, 99], axis=0)
        self._gap = max(1, round(config.min_seconds * fps))
        self._config = config
        self._rest_S = np.median([state[t] for state in states for t in (0, -1)], axis=0)
        speeds = np.concatenate([self._speed(state) for state in states])
        under_way = speeds[speeds >= SLOW * np.percentile(speeds, FAST)]
        usual = float(np.percentile(under_way, 75))
        self._still, self._settled = config.pause_speed * usual, SETTLED * usual
        self.method = self._choose(states)

    def find(self, state: Floats32) -> Frames:
        """(N,) ascending frames of an episode (T, S), each the first at which a subtask is complete.

        The end of all motion is always one of them.
        """
        found = self._bends(state) if self.method is KeyframeMethod.waypoint else self._moments(state)
        return self._spaced(found, self._end(state))

    def cut(self, state: Floats32) -> tuple[Frames, Frames]:
        """(N,) keyframes of `find`, and (N,) first frames of the subtasks: where motion goes on after a rest."""
        keyframes, moves = self.find(state), self._moves(state)
        starts = [0]
        for keyframe, following in zip(keyframes[:-1].tolist(), keyframes[1:].tolist(), strict=True):
            rest = np.flatnonzero(moves[keyframe + 1 : following])
            starts.append(keyframe + 1 + (int(rest[0]) if rest.size else 0))
        return keyframes, np.array(starts, np.int32)

    def _choose(self, states: Sequence[Floats32]) -> KeyframeMethod:
        method = self._config.method
        if method is KeyframeMethod.gripper and not self._grippers:
            raise ConfigError("keyframes.method=gripper, but no state dimension is a gripper; name it by grippers=")
        if method is not KeyframeMethod.auto:
            return method
        if np.mean([self._at_rest(state[-1:])[0] and not self._at_rest(state).all() for state in states]) >= RETURNS:
            return KeyframeMethod.rest
        if self._grippers and np.mean([self._switches(state).size > 0 for state in states]) >= RETURNS:
            return KeyframeMethod.gripper
        pauses = [self._stretches(self._speed(state) < self._still) for state in states]
        inner = [any(a > 0 and b < len(s) for a, b in found) for found, s in zip(pauses, states, strict=True)]
        return KeyframeMethod.pause if np.mean(inner) >= RETURNS else KeyframeMethod.waypoint

    def _moments(self, state: Floats32) -> list[int]:
        """The first frame at rest of every stretch in which a subtask may end."""
        speed = self._speed(state)
        if self.method is KeyframeMethod.gripper:
            switches = self._switches(state).tolist()
            stretches = [(t, min(t + self._gap, len(state))) for t in switches]
        else:
            there = self._at_rest(state) if self.method is KeyframeMethod.rest else speed < self._still
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
        reach = GRIPPER_MOVES * (self._high_S - self._low_S)[self._grippers]
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

    def _spaced(self, frames: list[int], last: int) -> Frames:
        """The frames that keep the least distance, and the end of all motion unless it is near the one before."""
        kept: list[int] = []
        for t in frames:
            if t - (kept[-1] if kept else 0) >= self._gap and t <= last:
                kept.append(t)
        if not kept or last - kept[-1] >= self._gap:
            kept.append(last)
        return np.array(kept, np.int32)

    def _at_rest(self, state: Floats32) -> NDArray[np.bool_]:
        off = (state - self._rest_S)[:, self._arm] / self._scale_S[self._arm]
        reach = GRIPPER_NEAR * (self._high_S - self._low_S)
        held = [np.abs(state[:, g] - self._rest_S[g]) <= reach[g] for g in self._grippers]
        return np.logical_and.reduce([_rms(off) < self._config.rest_radius, *held])

    def _switches(self, state: Floats32) -> Frames:
        """Frames at which a gripper crosses the middle of its range."""
        closed = state[:, self._grippers] < ((self._low_S + self._high_S) / 2)[self._grippers]
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


def _rms(values: Floats32) -> Floats32:
    return np.sqrt(np.square(values).mean(-1)) if values.shape[-1] else np.zeros(len(values), np.float32)
