"""Turns a driver's joint states into a robot's state. Numpy only; knows no middleware."""

from collections.abc import Collection

import numpy as np

from emu_robot.core import Floats
from emu_robot.errors import InvalidValueError, ShapeError
from emu_robot.robots.deployment import Deployment


class JointReader:
    """Reads joint states in any order, also among other robots' joints. The gripper may have messages of its own."""

    def __init__(self, robot: Deployment) -> None:
        self._joints, self._gripper = robot.joints.names, robot.gripper
        self._ours = frozenset(robot.dimension_names)
        self._opening: float | None = None

    def read(self, names: Collection[str], positions: Collection[float]) -> Floats | None:
        """State (A,): joints [rad], then the last opening of the gripper.

        None if the message has no joint of the arm, or if no gripper state came yet. Raises `ShapeError` or
        `InvalidValueError` for missing or non-finite positions, a repeated joint, or an arm with joints missing.
        """
        if self._ours.isdisjoint(names):
            return None
        if len(names) != len(positions):
            raise ShapeError("joint state", f"{len(positions)} positions", f"{len(names)}, one per name")
        pairs = [(name, float(at)) for name, at in zip(names, positions, strict=True) if name in self._ours]
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = sorted({name for name in found if sum(name == other for other, _ in pairs) > 1})
            raise InvalidValueError(f"joint state names {', '.join(twice)} twice")
        wrong = sorted(name for name, position in found.items() if not np.isfinite(position))
        if wrong:
            raise InvalidValueError(f"joint state: {', '.join(wrong)} not finite")
        return self._state(found)

    def _state(self, found: dict[str, float]) -> Floats | None:
        if self._gripper is not None and self._gripper.joint in found:
            self._opening = self._gripper.opening(found[self._gripper.joint])
        missing = [name for name in self._joints if name not in found]
        if len(missing) == len(self._joints):
            return None
        if missing:
            raise InvalidValueError(f"joint state without {', '.join(missing)}; it has {', '.join(sorted(found))}")
        arm = [found[name] for name in self._joints]
        if self._gripper is None:
            return np.array(arm)
        return None if self._opening is None else np.array([*arm, self._opening])
