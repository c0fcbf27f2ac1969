"""A leader arm as the operator's hand in a session. Knows a leader only by its protocol."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from emu_robot.core import Floats
from emu_robot.robots.limits import MotionLimits
from emu_robot.teleop.driving import Motion
from emu_robot.teleop.follow import Follower
from emu_robot.teleop.hand import Wish

START, AFTER = 0.8, 0.5
"""Largest distances of a leader's joint from the arm's, at the start and once the arm has caught up [rad]."""
CATCH_UP = 0.5
"""Speed of the arm's joints until it has caught up [rad/s]."""


class Device(Protocol):
    """A device of the operator, read in a thread of its own: no method waits. Most of them write to the desk."""

    name: str
    """Name of the device."""

    @property
    def trouble(self) -> str:
        """Why it does not answer; empty while it does."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@runtime_checkable
class Leader(Device, Protocol):
    """An arm that the operator moves by hand."""

    def newest(self) -> tuple[Floats, float] | None:
        """Its last position (A,) in the arm's numbers, and when it was read [s]; None before the first."""
        ...


class LeaderHand:
    """The `Source` of an operator who moves a leader arm. The deadman is held elsewhere: a key, a pedal.

    target: always None, for the tool's target is where the leader is. wish: ignored; the leader has its own gripper.
    """

    target = None

    def __init__(self, joints: Sequence[str], limits: MotionLimits) -> None:
        """joints: names of the leading dimensions that are joints."""
        self._follower = Follower(joints, limits, start=START, after=AFTER, catch_up=CATCH_UP)
        self._limits = limits
        self._wanted: Floats | None = None
        self.wish = Wish()

    @property
    def note(self) -> str:
        """A lasting distance between leader and arm, in words; empty if there is none."""
        return self._follower.note

    def on_leader(self, position: Floats) -> None:
        """Take the leader's position (A,)."""
        self._wanted = np.clip(position, self._limits.lower, self._limits.upper)

    def start(self, measured: Floats) -> None:
        """Begin where the arm is. Raises `InvalidValueError` naming a joint that is too far from the leader's."""
        self._follower.start(self._wanted, measured)

    def step(self, measured: Floats, dt: float) -> Motion:
        """The motion after `dt` seconds. Raises `InvalidValueError` if the leader is too far ahead of the arm."""
        return self._follower.step(self._wanted, measured, dt)

    def go_on_from(self, command: Floats) -> None:
        """Nothing: the next start is where the leader and the arm are."""

    def toggle_gripper(self) -> str:
        """Why the gripper's key does nothing."""
        return "the leader's own gripper moves the gripper"
