"""A Panda's eight joint and gripper targets as LeRobot names them, checked and clipped."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats, Floats32
from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_robot.robots.spec import PANDA


def named(values: NDArray[Any]) -> dict[str, float]:
    """Name -> value of (8,) targets or states; both have the names `RobotSpec.action_names`."""
    return dict(zip(PANDA.action_names, values.tolist(), strict=True))


def clipped(targets: NDArray[Any]) -> Floats32:
    """(8,) joint targets [rad] within the joint limits, gripper opening within [0, 1]."""
    return np.clip(targets, [*PANDA.joint_lower, 0.0], [*PANDA.joint_upper, 1.0]).astype(np.float32)


def checked(action: Mapping[str, float]) -> Floats:
    """The action (8,) in the order of `RobotSpec.action_names`.

    Raises `UnknownNameError` for an unknown name, `InvalidValueError` for a missing name or a non-finite value.
    """
    for name in action:
        if name not in PANDA.action_names:
            raise UnknownNameError("action", name, PANDA.action_names)
    missing = [name for name in PANDA.action_names if name not in action]
    if missing:
        raise InvalidValueError(f"action lacks {', '.join(missing)}; it must name {', '.join(PANDA.action_names)}")
    bad = [f"{name}={action[name]}" for name in PANDA.action_names if not np.isfinite(action[name])]
    if bad:
        raise InvalidValueError(f"action is not finite: {', '.join(bad)}")
    return np.array([action[name] for name in PANDA.action_names], np.float64)
