"""Makes the next command within the limits from the chunk that is played."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu_robot.control.trajectory import ChunkPlayer, MotionLimiter, TimedChunk
from emu_robot.core import Floats
from emu_robot.robots.limits import MotionLimits


class CommandStream:
    """Plays chunks, and brakes without one. Every command is finite and within the limits."""

    def __init__(self, limits: MotionLimits, dt: float, blend_s: float) -> None:
        """dt: usual time between commands [s]. blend_s: time over which a chunk is faded in [s]."""
        self._limits, self._dt = limits, dt
        self._limiter, self._player = MotionLimiter(limits, dt), ChunkPlayer(blend_s)
        self._at: float | None = None

    @property
    def position(self) -> Floats:
        """Position (A,) of the last command."""
        return self._limiter.position

    @property
    def velocity(self) -> Floats:
        """Velocity (A,) of the last command."""
        return self._limiter.velocity

    @property
    def at_rest(self) -> bool:
        """Whether the last command has no velocity."""
        return self._limiter.at_rest

    def rest_at(self, position: Floats) -> None:
        """Begin at rest at `position` (A,), or at the nearest limit."""
        self._limiter.reset(position)
        self._player.stop()
        self._at = None

    def play(self, start: float, dt: float, actions: NDArray[np.floating[Any]], now: float) -> None:
        """Change over to actions (T, A). The first is meant for `start` [s], the others for every dt after it."""
        within = np.clip(actions.astype(np.float64), self._limits.lower, self._limits.upper)
        self._player.play(TimedChunk(start=start, dt=dt, actions=within), now)

    def stop(self) -> None:
        """Play nothing more."""
        self._player.stop()

    def has_target(self, now: float) -> bool:
        """Whether there is an action to play now."""
        return self._player.target(now) is not None

    def distance(self, start: float, dt: float, actions: NDArray[np.floating[Any]], now: float) -> float:
        """Smallest distance over [start, now] between actions (T, J) and the last command, by the farthest of J joints.

        Late actions for a robot at rest began where the robot is; the limiter makes up for the delay.
        """
        timed = TimedChunk(start=start, dt=dt, actions=actions.astype(np.float64))
        passed = np.stack([timed.at(time)[0] for time in np.append(np.arange(start, now, dt), now).tolist()])
        return float(np.abs(passed - self.position[: actions.shape[1]]).max(axis=1).min())

    def next(self, now: float) -> None:
        """Make the command for now: towards the played chunk, or braking along the direction of travel."""
        elapsed = self._dt if self._at is None else max(now - self._at, 0.0)
        ends = now + self._dt - min(elapsed, self._dt)  # when the last command ends, at the earliest now
        target = self._player.target(ends)
        if target is None:
            self._limiter.brake(elapsed=elapsed)
        else:
            self._limiter.step(*target, elapsed=elapsed)
        self._at = now

    def sent(self, now: float) -> None:
        """The last command went out at `now`, later than it was made."""
        self._at = now
