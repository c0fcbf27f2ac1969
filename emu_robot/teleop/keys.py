"""Keys and messages of operators as wishes. The axes are the operator's: right, away, up.

Turns follow the right-hand rule about the same axes. Page and terminal have the same keys.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from emu_robot.core import Floats
from emu_robot.errors import InvalidValueError
from emu_robot.teleop.hand import Wish

MOVES: Mapping[str, tuple[int, int, int]] = {
    "d": (1, 0, 0),
    "a": (-1, 0, 0),
    "w": (0, 1, 0),
    "s": (0, -1, 0),
    "e": (0, 0, 1),
    "q": (0, 0, -1),
}
"""Key -> direction: right, left, away, near, up, down."""
TURNS: Mapping[str, tuple[int, int, int]] = {
    "w": (-1, 0, 0),
    "s": (1, 0, 0),
    "d": (0, 1, 0),
    "a": (0, -1, 0),
    "q": (0, 0, 1),
    "e": (0, 0, -1),
}
"""The same keys with Shift -> turn: tilt away, near, right, left; turn left, right."""
ORDERS: Mapping[str, str] = {
    "r": "start",
    "enter": "success",
    "right": "success",
    "f": "failure",
    "left": "discard",
    "backspace": "discard",
    "n": "next",
    "x": "flag",
    "g": "gripper",
    "escape": "stop",
    "u": "resume",
    "p": "pause",
    "t": "take",
    "c": "correct",
}
"""Key -> order."""
MOST_JOINTS = 63
"""Highest index of a joint in a message."""
HOME_KEY = "h"
"""Goes home while it is held."""
FACING = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""From the axes of an operator who faces the arm to those of its base, whose x points to the operator."""


def to_base(operator: Floats, *, faces_arm: bool) -> Floats:
    """A vector (3,) along right, away, up as one along the axes of the arm's base.

    faces_arm: whether the operator looks at the arm from its front, or else from behind it.
    """
    seen = FACING @ operator
    return seen if faces_arm else seen * np.array([-1.0, -1.0, 1.0])


def read_wish(message: Mapping[str, Any], *, faces_arm: bool) -> Wish:
    """A wish from a page's message: `linear` and `angular`, three shares each, `grip`, `home`, and for an arm that is
    driven joint by joint `joint` with its `share`.

    Raises `InvalidValueError` for anything else.
    """
    grip = message.get("grip", 0)
    if not is_number(grip):
        raise InvalidValueError(f"grip is {str(grip)[:60]!r}, must be a number")
    share = message.get("share", 0)
    if not is_number(share):
        raise InvalidValueError(f"share is {str(share)[:60]!r}, must be a number")
    return Wish(
        linear=to_base(_read_axes("linear", message), faces_arm=faces_arm),
        angular=to_base(_read_axes("angular", message), faces_arm=faces_arm),
        goes_home=message.get("home") is True,
        grip=float(np.sign(grip)),
        joint=_read_joint(message),
        share=float(np.clip(share, -1.0, 1.0)),
    )


def _read_joint(message: Mapping[str, Any]) -> int | None:
    joint = message.get("joint")
    if joint is not None and (not isinstance(joint, int) or isinstance(joint, bool) or not 0 <= joint <= MOST_JOINTS):
        raise InvalidValueError(f"joint is {str(joint)[:60]!r}, must be an index")
    return joint


def _read_axes(name: str, message: Mapping[str, Any]) -> Floats:
    values = message.get(name, [0, 0, 0])
    if not isinstance(values, list) or len(values) != 3 or not all(map(is_number, values)):
        raise InvalidValueError(f"{name} is {str(values)[:60]!r}, must be three finite numbers")
    return np.clip(np.array(values, np.float64), -1.0, 1.0)


def is_number(value: Any) -> bool:
    """Whether a value of a message is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
