"""Rules by which an arm follows a leader's positions. Numpy only; knows no device."""

from collections.abc import Sequence

import numpy as np

from emu_robot.core import Floats
from emu_robot.errors import InvalidValueError
from emu_robot.robots.limits import MotionLimits
from emu_robot.teleop.driving import Motion

SMOOTHING = 0.5
"""Share of the newest difference in the estimate of a leader's velocity."""
LARGEST_STEP = 0.05
"""Largest step of a joint that catches up [rad]."""
RESTING = 0.05
"""Speed below which a leader counts as resting [rad/s]."""
OFFSET, OFFSET_S = 0.1, 1.0
"""Distance between a resting leader and its arm that is told [rad], and how long it must last [s]."""


class Follower:
    """Moves an arm to a leader that is near: slowly until it has caught up, then as fast as the limits allow.

    note: a lasting distance between the two, in words; empty if there is none.
    """

    def __init__(
        self, joints: Sequence[str], limits: MotionLimits, *, start: float, after: float, catch_up: float
    ) -> None:
        """joints: names of the leading dimensions that are joints; the others are grippers, which may be anywhere.

        start, after: largest distance of a leader's joint until the arm has caught up, and then [rad]. catch_up: speed
        of the joints until then [rad/s].
        """
        self._names, self._limits = tuple(joints), limits
        self._start, self._after, self._catch_up = start, after, catch_up
        self._target: Floats | None = None
        self._velocity: Floats = np.zeros(len(limits.lower))
        self._caught_up, self._rested_s, self.note = False, 0.0, ""

    def start(self, wanted: Floats | None, measured: Floats) -> None:
        """Start where the arm is. Raises `InvalidValueError` naming a joint that is too far from the leader's."""
        self._gap(wanted, measured, self._start)
        self._target, self._caught_up = measured.copy(), False
        self._velocity = np.zeros(len(measured))

    def step(self, wanted: Floats | None, measured: Floats, dt: float) -> Motion:
        """The motion after `dt` seconds. Raises `InvalidValueError` if the leader is too far ahead of the arm."""
        assert self._target is not None, "not started"
        gap = self._gap(wanted, self._target, self._after if self._caught_up else self._start)
        reach = dt * self._limits.velocity
        if not self._caught_up:
            n = len(self._names)
            reach[:n] = np.minimum(reach[:n], min(dt * self._catch_up, LARGEST_STEP))
        self._caught_up = self._caught_up or bool((np.abs(gap) <= reach).all())
        moved = np.clip(gap, -reach, reach)
        self._target = self._target + moved
        self._velocity += SMOOTHING * (moved / dt - self._velocity)
        self._watch(measured, dt)
        return Motion(position=self._target.copy(), velocity=self._velocity.copy())

    def _watch(self, measured: Floats, dt: float) -> None:
        """Note a joint that rests away from a resting leader's."""
        assert self._target is not None
        rests = self._caught_up and bool((np.abs(self._velocity) < RESTING).all())
        self._rested_s = self._rested_s + dt if rests else 0.0
        if self._rested_s < OFFSET_S:
            return
        away = (measured - self._target)[: len(self._names)]
        worst = int(np.abs(away).argmax())
        far = abs(away[worst]) > OFFSET
        said = f"{self._names[worst]} stays {away[worst]:+.2f} rad from the leader's: compare the two calibrations"
        self.note = said if far else ""

    def _gap(self, wanted: Floats | None, position: Floats, most: float) -> Floats:
        """The way (A,) from a position to the leader. Raises `InvalidValueError` if a joint's is longer than `most`."""
        if wanted is None:
            raise InvalidValueError("nothing heard of the leader's joints")
        gap = wanted - position
        farthest = int(np.abs(gap[: len(self._names)]).argmax())
        if abs(gap[farthest]) > most:
            raise InvalidValueError(
                f"the leader is {gap[farthest]:+.2f} rad from the robot's {self._names[farthest]}; "
                f"bring it within {most:.2f} rad"
            )
        return gap
