"""Turns action chunks into a target at any time, and targets into commands within limits. Numpy only.

Times are seconds of one steady clock. Suffixes: T chunk, A action.
"""

from dataclasses import dataclass

import numpy as np

from emu_robot.core import Floats
from emu_robot.errors import InvalidValueError, ShapeError
from emu_robot.robots.limits import MotionLimits


@dataclass(frozen=True, kw_only=True)
class TimedChunk:
    """A chunk as a curve over time.

    A cubic spline passes every action in the middle of its interval, so that on average the curve is neither ahead of
    the actions nor behind them.
    """

    start: float
    """When the first action begins [s]."""
    dt: float
    """How long each action is commanded [s], above 0."""
    actions: Floats
    """(T, A), T >= 1."""

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or not len(self.actions):
            raise ShapeError("actions of a chunk", self.actions.shape, "(T >= 1, A)")
        if self.dt <= 0:
            raise InvalidValueError(f"dt is {self.dt} s, must be positive")

    @property
    def end(self) -> float:
        """When the last action ends [s]."""
        return self.start + self.dt * len(self.actions)

    def at(self, time: float) -> tuple[Floats, Floats]:
        """Position (A,) and velocity (A,) [1/s]; at rest before the first action's middle and after the last action's.

        Cubic Hermite with the slopes of Catmull and Rom (half the difference of the neighbours), zero at both ends.
        """
        actions, last = self.actions, len(self.actions) - 1
        u = (time - self.start) / self.dt - 0.5
        i = int(np.floor(np.clip(u, 0, max(last - 1, 0))))
        if u <= 0 or u >= last:
            return actions[0 if u <= 0 else last].copy(), np.zeros(actions.shape[1])
        s, p, q = u - i, actions[i], actions[i + 1]
        slope_p = (q - actions[i - 1]) / 2 if i > 0 else np.zeros_like(p)
        slope_q = (actions[i + 2] - p) / 2 if i + 2 <= last else np.zeros_like(p)
        position = (
            (2 * s**3 - 3 * s**2 + 1) * p
            + (s**3 - 2 * s**2 + s) * slope_p
            + (3 * s**2 - 2 * s**3) * q
            + (s**3 - s**2) * slope_q
        )
        per_step = (6 * s**2 - 6 * s) * (p - q) + (3 * s**2 - 4 * s + 1) * slope_p + (3 * s**2 - 2 * s) * slope_q
        return position, per_step / self.dt


class ChunkPlayer:
    """Plays chunks that replace each other, each faded in over `blend_s` seconds."""

    def __init__(self, blend_s: float) -> None:
        if blend_s < 0:
            raise InvalidValueError(f"blend_s is {blend_s}, must not be negative")
        self._blend_s = blend_s
        self.stop()

    def stop(self) -> None:
        """Forget every chunk."""
        self._old: TimedChunk | None = None
        self._new: TimedChunk | None = None
        self._since = 0.0

    def play(self, chunk: TimedChunk, now: float) -> None:
        """Change over to `chunk` from `now` on."""
        self._old, self._new, self._since = self._new, chunk, now

    def target(self, now: float) -> tuple[Floats, Floats] | None:
        """Position and velocity (A,) at `now`; None without a chunk, or past its last action."""
        if self._new is None or now > self._new.end:
            return None
        position, velocity = self._new.at(now)
        weight = min((now - self._since) / self._blend_s, 1.0) if self._blend_s else 1.0
        if self._old is None or weight >= 1 or now > self._old.end:
            self._old = None
            return position, velocity
        old_position, old_velocity = self._old.at(now)
        fading = (position - old_position) / self._blend_s
        return (
            weight * position + (1 - weight) * old_position,
            weight * velocity + (1 - weight) * old_velocity + fading,
        )


class MotionLimiter:
    """Moves a command towards targets, never beyond limits of position, velocity or acceleration.

    `position` and `velocity` (A,) are those of the last command. It begins at rest in the middle of the limits.
    Commands may come sooner or later than every dt; the limits hold for the time between them.
    """

    def __init__(self, limits: MotionLimits, dt: float) -> None:
        """dt: usual time between commands, and the time to reach each of them [s]."""
        if dt <= 0:
            raise InvalidValueError(f"dt is {dt} s, must be positive")
        self._limits, self._dt = limits, dt
        self.reset((limits.lower + limits.upper) / 2)

    @property
    def at_rest(self) -> bool:
        """Whether the last command has no velocity."""
        return not self.velocity.any()

    def reset(self, position: Floats) -> None:
        """Be at rest at `position` (A,), or at the nearest limit.

        Raises `ShapeError`, or `InvalidValueError` if it is not finite.
        """
        if position.shape != self._limits.lower.shape:
            raise ShapeError("position", position.shape, self._limits.lower.shape)
        if not np.isfinite(position).all():
            raise InvalidValueError("position is not finite")
        self.position = np.clip(position.astype(np.float64), self._limits.lower, self._limits.upper)
        self.velocity = np.zeros(len(position))

    def step(self, target: Floats, velocity: Floats | float = 0.0, *, elapsed: float | None = None) -> Floats:
        """The command (A,) for dt from now. elapsed: time since the last command [s], dt if None.

        target: (A,), the position to reach when the last command ends, or now if it has ended. It moves with
        `velocity` [1/s]. Raises `InvalidValueError`, and changes nothing, if one of them is not finite.
        """
        if not (np.isfinite(target).all() and np.isfinite(velocity).all()):
            raise InvalidValueError("a target is not finite")
        limits, interval, before = self._limits, self._interval(elapsed), self.velocity
        offset = np.clip(target, limits.lower, limits.upper) - self.position
        wanted = velocity + np.sign(offset) * self._stoppable(np.abs(offset), interval)
        upwards = self._stoppable(limits.upper - self.position, interval)
        downwards = self._stoppable(self.position - limits.lower, interval)
        wanted = np.clip(wanted, -np.minimum(limits.velocity, downwards), np.minimum(limits.velocity, upwards))
        change = limits.acceleration * interval
        return self._go(np.clip(wanted, before - change, before + change), interval)

    def brake(self, *, elapsed: float | None = None) -> Floats:
        """The command (A,) that comes to rest soonest without turning back. elapsed: as in `step`."""
        interval = self._interval(elapsed)
        change = self._limits.acceleration * interval
        return self._go(self.velocity - np.clip(self.velocity, -change, change), interval)

    def _go(self, velocity: Floats, interval: float) -> Floats:
        position = np.clip(self.position + velocity * interval, self._limits.lower, self._limits.upper)
        self.position, self.velocity = position, velocity
        return position.copy()

    def _interval(self, elapsed: float | None) -> float:
        """Time that a command may use [s]: the time since the last command, at most dt."""
        return self._dt if elapsed is None else min(max(elapsed, 0.0), self._dt)

    def _stoppable(self, distance: Floats, interval: float) -> Floats:
        """The highest speed for the next interval that still stops within `distance` >= 0.

        v interval + v^2 / 2a = distance. Commands that come sooner need no longer distance.
        """
        a = self._limits.acceleration
        return a * (np.sqrt(interval**2 + 2 * distance / a) - interval)
