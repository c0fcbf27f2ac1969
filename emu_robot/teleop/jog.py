"""Turns a gamepad's sticks into speeds of joints. Numpy only; knows no middleware."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emu_robot.core import Floats
from emu_robot.errors import ConfigError, InvalidValueError, UnknownNameError
from emu_robot.robots.limits import MotionLimits
from emu_robot.teleop.driving import Motion, TeleopConfig

STICKS = (0, 1, 3, 4)
"""Axes of the two sticks of a gamepad in the order of the joy driver."""
SAME_GRIP = 0.05
"""Change of a gripper's opening below which its grip counts as unchanged."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis of the pad that moves a joint."""

    joint: int
    """Index of the joint."""
    axis: int
    """Index of the axis."""
    sign: float = 1.0
    """Direction: 1 or -1."""


type Groups = tuple[tuple[Axis, ...], ...]
"""Groups of axes. One group moves at a time; a button selects the next."""


def default_groups(joints: Sequence[str]) -> Groups:
    """Groups of the joints in order, each with as many joints as the sticks have axes."""
    axes = [Axis(joint=i, axis=STICKS[i % len(STICKS)]) for i in range(len(joints))]
    return tuple(tuple(axes[i : i + len(STICKS)]) for i in range(0, len(axes), len(STICKS)))


def read_groups(texts: Sequence[str], joints: Sequence[str]) -> Groups:
    """Read one group from each text such as "joint1=0 joint2=-1": joint, axis, and a minus to reverse it.

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
    """Integrates sticks and buttons to a target, from where the robot was at the start."""

    def __init__(self, limits: MotionLimits, joints: int, groups: Groups, config: TeleopConfig) -> None:
        """joints: number of leading dimensions that are joints; the others are grippers, which buttons move."""
        self._limits, self._joints, self._groups, self._config = limits, joints, groups, config
        self._speed = config.speed * limits.velocity
        self._axes: Floats = np.zeros(0)
        self._buttons: tuple[bool, ...] = ()
        self._target: Floats | None = None
        self._measured: Floats | None = None
        self.group = 0
        """Index of the group that moves."""

    def on_pad(self, axes: Sequence[float], buttons: Sequence[int]) -> None:
        """Take axes in [-1, 1] and buttons. Raises `InvalidValueError` for non-finite axes, or too few of them."""
        values, highest = np.asarray(axes, np.float64), max(axis.axis for group in self._groups for axis in group)
        if not np.isfinite(values).all():
            raise InvalidValueError("an axis of the pad is not finite")
        if highest >= len(values):
            raise InvalidValueError(f"the pad has {len(values)} axes, axis {highest} is in use")
        before, self._axes, self._buttons = self._is_down("group_button"), values, tuple(map(bool, buttons))
        if self._is_down("group_button") and not before:
            self.group = (self.group + 1) % len(self._groups)

    def start(self, measured: Floats) -> None:
        """Start where the robot is. A gripper that has not moved keeps its command: it may hold something."""
        grip, n = measured.copy(), self._joints
        if self._target is not None and self._measured is not None:
            same = np.abs(measured - self._measured) < SAME_GRIP
            grip = np.where(same, self._target, measured)
        self._target = np.concatenate([measured[:n], grip[n:]])

    def step(self, measured: Floats, dt: float) -> Motion:
        """The motion after `dt` seconds. A target leads its measured joint by at most the leash and stays in limits."""
        assert self._target is not None, "not started"
        limits, n, before = self._limits, self._joints, self._target
        wanted = before + dt * self._velocity()
        leash = self._config.leash
        wanted[:n] = np.clip(wanted[:n], measured[:n] - leash, measured[:n] + leash)
        self._target, self._measured = np.clip(wanted, limits.lower, limits.upper), measured.copy()
        return Motion(position=self._target.copy(), velocity=(self._target - before) / dt)

    def _velocity(self) -> Floats:
        """Wanted velocity (A,) [1/s]."""
        share = np.zeros(len(self._speed))
        for axis in self._groups[self.group]:
            deflection, dead = axis.sign * self._axes[axis.axis], self._config.dead_zone
            share[axis.joint] = np.sign(deflection) * np.clip((abs(deflection) - dead) / (1 - dead), 0, 1)
        share[self._joints :] = float(self._is_down("open_button")) - float(self._is_down("close_button"))
        return share * self._speed

    def _is_down(self, name: str) -> bool:
        button = getattr(self._config, name)
        return button < len(self._buttons) and self._buttons[button]
