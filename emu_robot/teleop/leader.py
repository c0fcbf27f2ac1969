"""A leader arm whose joint states the robot follows. Numpy only; knows no middleware."""

from collections.abc import Collection, Sequence

import numpy as np

from emu_robot.core import Floats
from emu_robot.errors import ConfigError
from emu_robot.observation.joint_states import JointReader
from emu_robot.robots.deployment import Deployment
from emu_robot.teleop.driving import Motion, TeleopConfig
from emu_robot.teleop.follow import Follower


class LeaderArm:
    """Drives the robot's joints to the leader's joint positions, times a scale, plus an offset.

    It drives only a robot that is near the leader. At the start joints catch up slowly; then they follow at full speed.
    """

    def __init__(
        self,
        robot: Deployment,
        config: TeleopConfig,
        *,
        names: Sequence[str] = (),
        scale: Sequence[float] = (1.0,),
        offset: Sequence[float] = (0.0,),
    ) -> None:
        """names: the leader's joints in the order of the robot's dimensions; empty if they are named alike.

        scale, offset: one value for all dimensions, or one each. For a gripper they give its joint's position, not its
        opening. Raises `ConfigError`.
        """
        ours = robot.dimension_names
        theirs = tuple(names) or ours
        if len(theirs) != len(ours) or len(set(theirs)) != len(theirs):
            raise ConfigError(f"the leader needs {len(ours)} different joints, for {', '.join(ours)}; got {theirs}")
        factors = _one_each("scale", scale, len(ours))
        if not all(factors):
            raise ConfigError(f"a scale of the leader is 0: {factors}")
        shifts = _one_each("offset", offset, len(ours))
        self._map = dict(zip(theirs, zip(ours, factors, shifts, strict=True), strict=True))
        self._reader, self._limits = JointReader(robot), robot.limits
        near, pace = config.max_jump, config.catch_up
        self._follower = Follower(robot.joints.names, robot.limits, start=near, after=near, catch_up=pace)
        self._wanted: Floats | None = None

    def on_leader(self, names: Collection[str], positions: Collection[float]) -> bool:
        """Take a joint state. Returns False if it has no joint of the leader's arm, or its gripper is unknown yet.

        Raises the errors of `JointReader.read`.
        """
        renamed = [self._map[name][0] if name in self._map else "" for name in names]
        if len(names) == len(positions):
            positions = [self._moved(name, float(at)) for name, at in zip(names, positions, strict=True)]
        state = self._reader.read(renamed, positions)
        if state is not None:
            self._wanted = np.clip(state, self._limits.lower, self._limits.upper)
        return state is not None

    def start(self, measured: Floats) -> None:
        """Start where the robot is. Raises `InvalidValueError` naming a joint that is too far from the leader's."""
        self._follower.start(self._wanted, measured)

    def step(self, measured: Floats, dt: float) -> Motion:
        """The motion after `dt` seconds. Raises `InvalidValueError` if the leader is too far ahead of the robot."""
        return self._follower.step(self._wanted, measured, dt)

    def _moved(self, name: str, position: float) -> float:
        _, scale, offset = self._map.get(name, ("", 1.0, 0.0))
        return scale * position + offset


def _one_each(what: str, values: Sequence[float], n: int) -> list[float]:
    if len(values) not in (1, n) or not np.isfinite(values).all():
        raise ConfigError(f"{what} of the leader: one finite number for all joints, or {n}; got {list(values)}")
    return [float(values[0])] * n if len(values) == 1 else [float(value) for value in values]
