"""From a driver's joint states to a robot's state. Numpy only; knows no middleware."""

from collections.abc import Collection

import numpy as np

from emu_robot.deployment import Deployment
from emu_robot.errors import InvalidValueError, ShapeError
from emu_robot.trajectory import Floats


class JointReader:
    """Joint states in any order, with other robots' joints among them; the gripper's with the arm's or on its own."""

    def __init__(self, robot: Deployment) -> None:
        self._joints, self._gripper = robot.joints.names, robot.gripper
        self._opening: float | None = None
        self._names = set(robot.dimension_names)

    def read(self, names: Collection[str], positions: Collection[float]) -> Floats | None:
        """State (A,): joints [rad], gripper's opening; None if the arm's joints are not in it, or no gripper was yet.

        Raises `ShapeError` or `InvalidValueError` for what no driver should send: positions that are missing for some
        names or are not finite, an arm with joints missing.
        """
        ours = self._names & set(names)
        if not ours:
            return None
        if len(names) != len(positions):
            raise ShapeError("joint state", f"{len(positions)} positions", f"{len(names)}, one per name")
        found = {name: float(position) for name, position in zip(names, positions, strict=True) if name in ours}
        wrong = sorted(name for name, position in found.items() if not np.isfinite(position))
        if wrong:
            raise InvalidValueError(f"joint state: {', '.join(wrong)} not finite")
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
