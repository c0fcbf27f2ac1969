"""A real or simulated arm as its drivers present it: joints and their limits, controllers, cameras, all from YAML.

Robot side: needs numpy and a YAML reader, neither torch nor a middleware. `configs/robot/` holds those that ship.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from emu_robot.errors import ConfigError, UnknownNameError
from emu_robot.trajectory import Floats, MotionLimits

_PLACES = (Path(__file__).parent / "configs/robot", Path(__file__).parents[1] / "configs/robot")
ROBOTS = next(path for path in _PLACES if path.exists())
"""In a wheel, or in the repository."""
COMMAND_KINDS = ("trajectory", "positions", "gripper_command")
"""trajectory_msgs/JointTrajectory, std_msgs/Float64MultiArray, the action control_msgs/GripperCommand."""


@dataclass(frozen=True, kw_only=True)
class Joints:
    """Arm joints in the order of the policy's actions; limits per joint [rad], [rad/s], [rad/s^2], and their source."""

    names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    velocity: tuple[float, ...]
    acceleration: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        for name in ("lower", "upper", "velocity", "acceleration"):
            given = getattr(self, name)
            if len(given) != len(self.names):
                raise ConfigError(f"joints.{name} has {len(given)} values for {len(self.names)} joints")


@dataclass(frozen=True, kw_only=True)
class Gripper:
    """One gripper: its joint in the joint states, the positions that are 0 (closed) and 1 (open), how it is commanded.

    kind: see COMMAND_KINDS. speed: openings per second that commands may change by.
    """

    joint: str
    closed: float
    open: float
    topic: str
    kind: str = "trajectory"
    speed: float = 2.0

    def __post_init__(self) -> None:
        if self.kind not in COMMAND_KINDS:
            raise UnknownNameError("gripper.kind", self.kind, COMMAND_KINDS)
        if self.closed == self.open:
            raise ConfigError("gripper.closed and gripper.open are the same")

    def opening(self, position: float) -> float:
        """Position of the joint -> opening, 1 = open."""
        return (position - self.closed) / (self.open - self.closed)

    def position(self, opening: float) -> float:
        """Opening -> position of the joint."""
        return self.closed + opening * (self.open - self.closed)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A robot's drivers. kind of the arm's commands: "trajectory" or "positions".

    cameras: our name -> image topic; planner_camera: the one whose view subgoals are shown in. Names of topics are
    relative, so that a namespace moves them; absolute ones stay.
    """

    name: str
    joints: Joints
    gripper: Gripper
    command_topic: str
    cameras: Mapping[str, str]
    planner_camera: str
    joint_states: str = "joint_states"
    kind: str = "trajectory"

    def __post_init__(self) -> None:
        if self.kind not in COMMAND_KINDS[:2]:
            raise UnknownNameError("kind", self.kind, COMMAND_KINDS[:2])
        if self.planner_camera not in self.cameras:
            raise UnknownNameError("planner_camera", self.planner_camera, self.cameras)

    @property
    def dimension_names(self) -> tuple[str, ...]:
        """Of states and actions: the joints, then the gripper."""
        return (*self.joints.names, self.gripper.joint)

    @property
    def limits(self) -> MotionLimits:
        """Of every dimension, (A,); the gripper's opening in [0, 1], which it may change from rest within 0.05 s."""
        joints, speed = self.joints, self.gripper.speed

        def joined(values: tuple[float, ...], last: float) -> Floats:
            return np.array([*values, last], np.float64)

        return MotionLimits(
            lower=joined(joints.lower, 0.0),
            upper=joined(joints.upper, 1.0),
            velocity=joined(joints.velocity, speed),
            acceleration=joined(joints.acceleration, speed / 0.05),
        )


def deployments() -> list[str]:
    """Names of the robots that ship."""
    return sorted(path.stem for path in ROBOTS.glob("*.yaml"))


def find_deployment(name_or_path: str | Path) -> Path:
    """The YAML file of a robot that ships, or any other one. Raises `UnknownNameError` if there is none."""
    path = next((path for path in (ROBOTS / f"{name_or_path}.yaml", Path(name_or_path)) if path.is_file()), None)
    if path is None:
        raise UnknownNameError("robot", str(name_or_path), [*deployments(), "any YAML file like these"])
    return path


def read_deployment(name_or_path: str | Path) -> Deployment:
    """A robot that ships, or one in a YAML file.

    Raises `UnknownNameError` if there is none, `ConfigError` naming file and key of what is wrong.
    """
    path = find_deployment(name_or_path)
    return parse_deployment(path.read_text(), path)


def parse_deployment(text: str, source: str | Path) -> Deployment:
    """A robot from the YAML of such a file. Raises `ConfigError` naming `source` and the key of what is wrong."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not YAML ({str(error).splitlines()[0]})") from error
    try:
        joints = _construct(Joints, _part(values, "joints"), "joints.")
        gripper = _construct(Gripper, _part(values, "gripper"), "gripper.")
        return _construct(Deployment, {**values, "joints": joints, "gripper": gripper}, "")
    except (ConfigError, UnknownNameError) as error:
        raise ConfigError(f"{source}: {error}") from error


def _part(values: Any, name: str) -> Mapping[str, Any]:
    part = values.get(name) if isinstance(values, Mapping) else None
    if not isinstance(part, Mapping):
        raise ConfigError(f"{name} is missing, or not a mapping")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in part.items()}


def _construct[T](kind: type[T], values: Mapping[str, Any], prefix: str) -> T:
    known = {field.name for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    for name in values:
        if name not in known:
            raise UnknownNameError("key", f"{prefix}{name}", sorted(known))
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(
            f"{prefix or 'the file'}: {str(error).removeprefix(f'{kind.__name__}.__init__() ')}"
        ) from error
