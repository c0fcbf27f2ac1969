"""Arm and gripper of a robot: their joints, limits and topics, each checked where it is made. Numpy only."""

from dataclasses import dataclass
from math import pi

from emu_robot.errors import ConfigError
from emu_robot.robots.checks import (
    MOST_WORDS,
    check_choice,
    check_different,
    check_joint_name,
    check_list,
    check_number,
    check_text,
    check_topic,
)

COMMAND_KINDS = ("trajectory", "positions", "gripper_command")
"""Their types: trajectory_msgs/JointTrajectory, std_msgs/Float64MultiArray, the action control_msgs/GripperCommand."""
MOST_JOINTS = 64
MOST_POSITION = 12.6
"""Farthest position of a joint [rad], or [m] for a linear axis: two turns either way. A UR's joints turn once
(Universal_Robots_ROS2_Description). Joints that turn without end need an end in the file. Limits in degrees exceed it.
"""
VELOCITIES = (0.001, 50.0)
"""Range of highest speeds [rad/s]: up to twice the wrist of a small industrial arm (CRS A255 user guide: 23.6).
A Franka's joints reach 5.26.
"""
ACCELERATIONS = (0.001, 1000.0)
"""Range of highest accelerations [rad/s^2]: up to ten times that wrist (CRS A255 user guide: 78.5). An xArm has 20."""
BRAKING_S = 10.0
"""Longest time in which a joint may come to rest from full speed [s]; arms need 2 s or less."""
GRIPPER_POSITION, LEAST_STROKE = 10_000.0, 0.0001
"""Farthest position and shortest stroke of a gripper's joint [rad], [m], or servo counts (for instance 0 to 4095)."""
GRIPPER_SPEEDS = (0.01, 100.0)
"""Range of a gripper's speed [1/s]: from a stroke in 100 s to a stroke in 10 ms."""


@dataclass(frozen=True, kw_only=True)
class Joints:
    """Arm joints in the order of the policy's actions, and their limits: one entry per joint in each list.

    Raises `ConfigError` naming the key of an impossible value.
    """

    names: tuple[str, ...]
    """Names in the driver's joint states; 1 to 64, all different."""
    lower: tuple[float, ...]
    """Least position [rad], in [-12.6, 12.6], below `upper`."""
    upper: tuple[float, ...]
    """Greatest position [rad], in [-12.6, 12.6]."""
    velocity: tuple[float, ...]
    """Highest speed either way [rad/s], in [0.001, 50]."""
    acceleration: tuple[float, ...]
    """Highest acceleration either way [rad/s^2], in [0.001, 1000]; it must stop a joint from `velocity` within 10 s."""
    source: str
    """Source of the limits, in words; up to 1000 characters."""

    def __post_init__(self) -> None:
        self._check_names()
        degrees = "in degrees?"
        self._check_numbers("lower", -MOST_POSITION, MOST_POSITION, "rad", degrees)
        self._check_numbers("upper", -MOST_POSITION, MOST_POSITION, "rad", degrees)
        self._check_numbers("velocity", *VELOCITIES, "rad/s", degrees)
        self._check_numbers("acceleration", *ACCELERATIONS, "rad/s^2", degrees)
        for i, name in enumerate(self.names):
            self._check_joint(i, f"[{i}] ({name})")
        check_text("joints.source", self.source, MOST_WORDS)

    def _check_names(self) -> None:
        check_list("joints.names", self.names, "names")
        if not 1 <= len(self.names) <= MOST_JOINTS:
            raise ConfigError(f"joints.names has {len(self.names)} names, must have 1 to {MOST_JOINTS}")
        for i, name in enumerate(self.names):
            check_joint_name(f"joints.names[{i}]", name)
        check_different((f"joints.names[{i}]", name) for i, name in enumerate(self.names))

    def _check_numbers(self, what: str, low: float, high: float, unit: str, hint: str) -> None:
        key, given = f"joints.{what}", getattr(self, what)
        check_list(key, given, "numbers")
        if len(given) != len(self.names):
            raise ConfigError(f"{key} has {len(given)} values for {len(self.names)} joints")
        for i, (name, value) in enumerate(zip(self.names, given, strict=True)):
            is_above = isinstance(value, int | float) and high < abs(value) <= 180 / pi * high
            check_number(f"{key}[{i}] ({name})", value, low, high, unit, hint if is_above else "")

    def _check_joint(self, i: int, where: str) -> None:
        low, high, fastest, change = self.lower[i], self.upper[i], self.velocity[i], self.acceleration[i]
        if not low < high:
            raise ConfigError(f"joints.lower{where} is {low:g}, must be below joints.upper, which is {high:g}")
        if fastest / change > BRAKING_S:
            takes = f"stops the joint from {fastest:g} rad/s in {fastest / change:.3g} s"
            raise ConfigError(f"joints.acceleration{where} is {change:g}, {takes}, must do so within {BRAKING_S:g} s")


@dataclass(frozen=True, kw_only=True)
class Gripper:
    """One gripper: its joint, its closed and open positions, and how it is commanded.

    Raises `ConfigError` or `UnknownNameError` naming the key of an impossible value.
    """

    joint: str
    """Name of its joint in the joint states; not a joint of the arm."""
    closed: float
    """Position of the joint when closed [rad], [m] or in counts of its servo; in [-10000, 10000]."""
    open: float
    """Position of the joint when open, in the same unit and range; at least 0.0001 from `closed`."""
    topic: str
    """Topic of its commands; for the kind "gripper_command", the name of the action."""
    kind: str = "trajectory"
    """Kind of its commands: one of `COMMAND_KINDS`."""
    speed: float = 2.0
    """Highest change of the commanded opening [1/s], in [0.01, 100]."""
    joint_states: str = ""
    """Topic of its own joint states; empty if the arm's joint states hold its joint."""

    def __post_init__(self) -> None:
        check_joint_name("gripper.joint", self.joint)
        for name in ("closed", "open"):
            check_number(f"gripper.{name}", getattr(self, name), -GRIPPER_POSITION, GRIPPER_POSITION)
        if abs(self.open - self.closed) < LEAST_STROKE:
            same = "are the same" if self.open == self.closed else f"are less than {LEAST_STROKE:g} apart"
            raise ConfigError(f"gripper.closed, {self.closed:g}, and gripper.open, {self.open:g}, {same}")
        check_topic("gripper.topic", self.topic)
        check_choice("gripper.kind", self.kind, COMMAND_KINDS)
        check_number("gripper.speed", self.speed, *GRIPPER_SPEEDS, "1/s")
        if self.joint_states != "":
            check_topic("gripper.joint_states", self.joint_states)

    def opening(self, position: float) -> float:
        """Opening of a joint position, 0 = closed, 1 = open."""
        return (position - self.closed) / (self.open - self.closed)

    def position(self, opening: float) -> float:
        """Joint position of an opening."""
        return self.closed + opening * (self.open - self.closed)

    @property
    def controller(self) -> str:
        """Name of the node that takes the commands; empty if the topic does not show it."""
        return controller_of(self.topic)


def controller_of(topic: str) -> str:
    """Controller of a command topic: in ros2_control its name is the topic without the last part."""
    return topic.rpartition("/")[0]
