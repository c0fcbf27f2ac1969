"""A gamepad's sticks as speeds of joints. Numpy only; knows no middleware."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emu_robot.core import Floats
from emu_robot.errors import ConfigError, InvalidValueError, UnknownNameError
from emu_robot.robots.limits import MotionLimits
from emu_robot.teleop.driving import Motion, TeleopConfig

STICKS = (0, 1, 3, 4)
"""Axes of the two sticks on a gamepad as the joy driver orders them."""
SAME_GRIP = 0.05
"""Change of a gripper's opening that leaves its grip the same."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis of the pad moves a joint, both by their index; sign: 1 or -1."""

    joint: int
    axis: int
    sign: float = 1.0


type Groups = tuple[tuple[Axis, ...], ...]
"""One group at a time moves; a button goes over to the next."""


def default_groups(joints: Sequence[str]) -> Groups:
    """The joints in order, as many at a time as the sticks have axes."""
    axes = [Axis(joint=i, axis=STICKS[i % len(STICKS)]) for i in range(len(joints))]
    return tuple(tuple(axes[i : i + len(STICKS)]) for i in range(0, len(axes), len(STICKS)))


def read_groups(texts: Sequence[str], joints: Sequence[str]) -> Groups:
    """One group from each text such as "joint1=0 joint2=-1": the joint, its axis, a minus to turn it round.

    Raises `ConfigError` for another form, `UnknownNameError` for a joint that the robot does not have.
    """
    return tuple(tuple(_read_axis(part, joints) for part in text.split()) for text in texts)


def _read_axis(text: str, joints: Sequence[str]) -> Axis:
    found = re.fullmatch(r"([^=]+)=([+-]?)(\d+)", text)
    if found is None:
        raise ConfigError(f"{text!r} is no axis of a joint; write joint=2, or joint=-2 to turn it round")
    joint, sign, axis = found.groups()
    if joint not in joints:
        raise UnknownNameError("joint", joint, joints)
    return Axis(joint=list(joints).index(joint), axis=int(axis), sign=-1.0 if sign == "-" else 1.0)


class Jogger:
    """Sticks and buttons, integrated from where the robot was when it began.

    joints: how many of the dimensions are joints; the others, if any, are grippers, which buttons move. group: index of
    the one that moves.
    """

    def __init__(self, limits: MotionLimits, joints: int, groups: Groups, config: TeleopConfig) -> None:
        self._limits, self._joints, self._groups, self._config = limits, joints, groups, config
        self._speed = config.speed * limits.velocity
        self._axes: Floats = np.zeros(0)
        self._buttons: tuple[bool, ...] = ()
        self._target: Floats | None = None
        self._measured: Floats | None = None
        self.group = 0

    def on_pad(self, axes: Sequence[float], buttons: Sequence[int]) -> None:
        """axes: in [-1, 1]. Raises `InvalidValueError` if they are not finite, or fewer than are in use."""
        values, highest = np.asarray(axes, np.float64), max(axis.axis for group in self._groups for axis in group)
        if not np.isfinite(values).all():
            raise InvalidValueError("an axis of the pad is not finite")
        if highest >= len(values):
            raise InvalidValueError(f"the pad has {len(values)} axes, axis {highest} is in use")
        before, self._axes, self._buttons = self._is_down("group_button"), values, tuple(map(bool, buttons))
        if self._is_down("group_button") and not before:
            self.group = (self.group + 1) % len(self._groups)

    def start(self, measured: Floats) -> None:
        """From where the robot is. A gripper that has not moved since is commanded on: it may squeeze something."""
        grip, n = measured.copy(), self._joints
        if self._target is not None and self._measured is not None:
            same = np.abs(measured - self._measured) < SAME_GRIP
            grip = np.where(same, self._target, measured)
        self._target = np.concatenate([measured[:n], grip[n:]])

    def step(self, measured: Floats, dt: float) -> Motion:
        """A joint that is blocked is led by no more than the leash, one at its limit stays there."""
        assert self._target is not None, "not started"
        limits, n, before = self._limits, self._joints, self._target
        wanted = before + dt * self._velocity()
        leash = self._config.leash
        wanted[:n] = np.clip(wanted[:n], measured[:n] - leash, measured[:n] + leash)
        self._target, self._measured = np.clip(wanted, limits.lower, limits.upper), measured.copy()
        return Motion(position=self._target.copy(), velocity=(self._target - before) / dt)

    def _velocity(self) -> Floats:
        """(A,) [1/s]."""
        share = np.zeros(len(self._speed))
        for axis in self._groups[self.group]:
            deflection, dead = axis.sign * self._axes[axis.axis], self._config.dead_zone
            share[axis.joint] = np.sign(deflection) * np.clip((abs(deflection) - dead) / (1 - dead), 0, 1)
        share[self._joints :] = float(self._is_down("open_button")) - float(self._is_down("close_button"))
        return share * self._speed

    def _is_down(self, name: str) -> bool:
        button = getattr(self._config, name)
        return button < len(self._buttons) and self._buttons[button]
