"""Where subtasks end in an episode nobody labelled: at rest, at the gripper's moves, at pauses, or where the path bends.

A keyframe is the frame at which a subtask is complete. Knows neither images nor words.
Suffixes: T frames of an episode, S state dimensions, E episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from emu_robot.errors import ConfigError, DataError

type Floats = NDArray[np.float32]


class KeyframeMethod(StrEnum):
    """What ends a subtask.

    rest: the robot is back at the pose where episodes begin and end, its gripper as it was then. gripper: it opens or
    closes (as PerAct and RVT take their keyframes). pause: the robot stands nearly still. waypoint: straight lines
    between the keyframes stay within an error of the path (AWE, Shi et al. 2023). auto: the first of these that the
    set shows.
    """

    auto = "auto"
    rest = "rest"
    gripper = "gripper"
    pause = "pause"
    waypoint = "waypoint"


@dataclass(kw_only=True)
class KeyframeConfig:
    """method: see `KeyframeMethod`. min_seconds: between two keyframes [s].

    rest_radius: how near the rest pose counts as there; pause_speed: below which share of the set's 75th percentile of
    speed the robot stands still; waypoint_error: largest distance of the path from the lines. Radius and error are
    root mean squares over the dimensions, each divided by its standard deviation in the set.
    """

    method: KeyframeMethod = KeyframeMethod.auto
    min_seconds: float = 0.75
    rest_radius: float = 0.35
    pause_speed: float = 0.35
    waypoint_error: float = 0.5

    def __post_init__(self) -> None:
        for name in ("min_seconds", "rest_radius", "pause_speed", "waypoint_error"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"keyframes.{name} is {getattr(self, name)}, must be positive")


class KeyframeFinder:
    """Finds keyframes in episodes of one dataset; what is usual in the set is measured when it is made."""

    def __init__(self, states: Sequence[Floats], grippers: Sequence[int], fps: int, config: KeyframeConfig) -> None:
        """states: (T, S) of every episode; grippers: state dimensions that are grippers.

        Raises `DataError` if nothing in the set ever moves, `ConfigError` for a method that the set does not allow.
        """
        self._fps, self._config = fps, config
        self._grippers = list(grippers)
        everything = np.concatenate(states)
        self._arm = [i for i in range(everything.shape[1]) if i not in self._grippers]
        std_S = everything.std(0)
        moving = std_S > 1e-6
        if not moving.any():
            raise DataError("no state dimension ever changes; keyframes cannot be found, give them by labels")
        self._scale_S = np.where(moving, std_S, np.inf)
        self._n_moving = max(int(moving[self._arm].sum()), 1)
        self._open_S = everything[:, :].min(0), everything.max(0)
        self._usual_speed = float(np.percentile(np.concatenate([self._speed(state) for state in states]), 75))
        self._rest_S = np.median([*(state[0] for state in states), *(state[-1] for state in states)], axis=0)
        self.method = self._choose(states)

    def find(self, state: Floats) -> NDArray[np.int32]:
        """(N,) ascending frames at which a subtask is complete; the last one is at the end of the episode at most."""
        match self.method:
            case KeyframeMethod.rest:
                return self._rests(state)
        raise NotImplementedError

    def _choose(self, states):
        return KeyframeMethod.rest

    def _distance(self, state: Floats, to: Floats) -> Floats:
        off = ((state - to) / self._scale_S)[:, self._arm]
        return np.sqrt(np.square(off).sum(1) / self._n_moving)

    def _speed(self, state: Floats) -> Floats:
        step = np.diff(state, axis=0, append=state[-1:])
        if len(step) > 1:
            step[-1] = step[-2]
        return self._distance(step, np.zeros(state.shape[1])) * self._fps

    def _rests(self, state):
        near = self._distance(state, self._rest_S) < self._config.rest_radius
        for g in self._grippers:
            lo, hi = self._open_S
            near &= np.abs(state[:, g] - self._rest_S[g]) < 0.25 * (hi - lo)[g]
        speed = self._speed(state)
        out = []
        T = len(state)
        t = 0
        left = False
        while t < T:
            if not near[t]:
                left = True
                t += 1
                continue
            e = t
            while e < T and near[e]:
                e += 1
            if left or t > 0:
                k = t + int(np.argmin(speed[t:e]))
                out.append(k)
            t = e
        return np.array(out, np.int32)
