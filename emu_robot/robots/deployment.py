"""A real or simulated arm and its drivers: joints and limits, controllers, cameras, all read from YAML.

Knows neither torch nor a middleware. `configs/robot/` holds the robots that ship.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from emu_robot.core import Floats
from emu_robot.errors import ConfigError, UnknownNameError
from emu_robot.robots.checks import (
    brief,
    check_camera_name,
    check_choice,
    check_different,
    check_joint_name,
    check_list,
    check_robot_name,
    check_topic,
    one_line,
)
from emu_robot.robots.file import parse_yaml, read_text
from emu_robot.robots.limits import MotionLimits
from emu_robot.robots.parts import COMMAND_KINDS, Gripper, Joints, controller_of

_PLACES = (Path(__file__).parents[1] / "configs/robot", Path(__file__).parents[2] / "configs/robot")
ROBOTS = next(path for path in _PLACES if path.exists())
"""Folder of the robots that ship, in a wheel or in the repository."""
MOST_CAMERAS = 16


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A robot's drivers, as its file describes them.

    A namespace moves relative names of topics; absolute names stay.
    Raises `ConfigError` or `UnknownNameError` naming the key that does not fit.
    """

    name: str
    """Name of the robot: letters, digits, _ . and -. Names of simulated robots end in _sim."""
    joints: Joints
    """Joints of the arm, with their limits."""
    gripper: Gripper | None = None
    """The gripper; None if there is none: states and actions are the arm's joints then."""
    command_topic: str
    """Topic of the arm's commands."""
    cameras: Mapping[str, str]
    """Our name -> image topic, 1 to 16 entries. Topics that end in /compressed carry sensor_msgs/CompressedImage."""
    planner_camera: str
    """Name of the camera in whose view subgoals are shown."""
    joint_states: str = "joint_states"
    """Topic of the arm's joint states."""
    kind: str = "trajectory"
    """Kind of the arm's commands: "trajectory" or "positions"."""
    command_joints: tuple[str, ...] = ()
    """For the kind "positions", the controller's order of joints; if empty, the controller is asked for it."""

    def __post_init__(self) -> None:
        check_robot_name("name", self.name)
        if self.gripper is not None and self.gripper.joint in self.joints.names:
            joint = brief(self.gripper.joint)
            raise ConfigError(f"gripper.joint is {joint}, a joint of the arm; it must be the gripper's own")
        check_topic("command_topic", self.command_topic)
        check_topic("joint_states", self.joint_states)
        check_choice("kind", self.kind, COMMAND_KINDS[:2])
        self._check_cameras()
        self._check_command_joints()
        check_different((key, topic.removeprefix("/")) for key, topic in self.topics.items())

    def _check_cameras(self) -> None:
        if not isinstance(self.cameras, Mapping) or not 1 <= len(self.cameras) <= MOST_CAMERAS:
            raise ConfigError(f"cameras is {brief(self.cameras)}, must map 1 to {MOST_CAMERAS} names to image topics")
        for name, topic in self.cameras.items():
            check_camera_name("cameras", name)
            check_topic(f"cameras.{name}", topic)
        check_choice("planner_camera", self.planner_camera, self.cameras)

    def _check_command_joints(self) -> None:
        given, names = self.command_joints, self.joints.names
        check_list("command_joints", given, "names")
        for i, name in enumerate(given):
            check_joint_name(f"command_joints[{i}]", name)
        if given and self.kind != "positions":
            raise ConfigError(f"command_joints is given, kind is {self.kind}, which names its joints; leave it out")
        if given and sorted(given) != sorted(names):
            must = f"must have each of {', '.join(names)} once"
            raise ConfigError(f"command_joints is {one_line(', '.join(given))}; {must}")

    @property
    def topics(self) -> dict[str, str]:
        """Key of the file -> topic or action, for all topics of the drivers."""
        gripper = {} if self.gripper is None else {"gripper.topic": self.gripper.topic}
        own = [("gripper.joint_states", topic) for topic in self.joint_state_topics[1:]]
        cameras = {f"cameras.{name}": topic for name, topic in self.cameras.items()}
        arm = {"command_topic": self.command_topic, "joint_states": self.joint_states}
        return arm | gripper | dict(own) | cameras

    @property
    def joint_state_topics(self) -> tuple[str, ...]:
        """Topic of the arm's joint states, and of the gripper's if it has its own."""
        own = self.gripper.joint_states if self.gripper else ""
        return (self.joint_states, own) if own else (self.joint_states,)

    @property
    def controller(self) -> str:
        """Name of the node that takes the arm's commands; empty if the topic does not tell."""
        return controller_of(self.command_topic)

    @property
    def n_joints(self) -> int:
        """Number of the arm's joints."""
        return len(self.joints.names)

    @property
    def dimension_names(self) -> tuple[str, ...]:
        """Names of the dimensions of states and actions: the joints, then the gripper if there is one."""
        return (*self.joints.names, *([self.gripper.joint] if self.gripper else []))

    @property
    def limits(self) -> MotionLimits:
        """Limits of every dimension, (A,). A gripper's opening lies in [0, 1]; it reaches full speed within 0.05 s."""
        joints, speeds = self.joints, [self.gripper.speed] if self.gripper else []

        def joined(values: Sequence[float], last: Sequence[float]) -> Floats:
            return np.array([*values, *last], np.float64)

        return MotionLimits(
            lower=joined(joints.lower, [0.0 for _ in speeds]),
            upper=joined(joints.upper, [1.0 for _ in speeds]),
            velocity=joined(joints.velocity, speeds),
            acceleration=joined(joints.acceleration, [speed / 0.05 for speed in speeds]),
        )

    def require_actions(self, names: Sequence[str], grippers: int) -> None:
        """Raise `ConfigError` naming both lists if weights with these action names cannot drive this robot.

        grippers: how many of the last names are grippers. It may be 0 although the robot has a gripper: then the
        weights learned the opening like any other number.
        """
        ours = self.dimension_names
        if len(names) != len(ours) or grippers > len(ours) - self.n_joints:
            has = f"{self.name} has {len(ours)}: {', '.join(ours)}{'' if self.gripper else ' and no gripper'}"
            theirs = f"{len(names)} dimensions: {', '.join(names)}{f', the last {grippers} grippers' * (grippers > 1)}"
            raise ConfigError(f"the weights act on {theirs}; {has}")


def deployments() -> list[str]:
    """Names of the robots that ship."""
    return sorted(path.stem for path in ROBOTS.glob("*.yaml"))


def find_deployment(name_or_path: str | Path) -> Path:
    """The YAML file of a robot that ships, or another YAML file. Raises `UnknownNameError` if there is none."""
    given, path = str(name_or_path), Path(name_or_path)
    try:
        shipped = ROBOTS / f"{given}.yaml"
        found = shipped if shipped.is_file() else path if given.strip() and path.exists() else None
    except (OSError, ValueError):  # a name too long for a file, or a folder without read permission
        found = None
    if found is None:
        raise UnknownNameError("robot", one_line(given), [*deployments(), "any YAML file like these"])
    return found


def read_deployment(name_or_path: str | Path) -> Deployment:
    """Read a robot that ships, or a robot in a YAML file.

    Raises `UnknownNameError` if there is none, `ConfigError` naming the file and the wrong key.
    """
    path = find_deployment(name_or_path)
    return parse_deployment(read_text(path), path)


def parse_deployment(text: str, source: str | Path) -> Deployment:
    """Read a robot from YAML. Raises `ConfigError` naming `source` and the wrong key."""
    try:
        values = parse_yaml(text)
        parts: dict[str, Any] = {"joints": _construct(Joints, _part(values, "joints"), "joints.")}
        if values.get("gripper") is not None:
            parts["gripper"] = _construct(Gripper, _part(values, "gripper"), "gripper.")
        return _construct(Deployment, values | parts, "")
    except (ConfigError, UnknownNameError) as error:
        raise ConfigError(f"{one_line(source)}: {error}") from error


def _part(values: Mapping[Any, Any], name: str) -> Mapping[Any, Any]:
    if name not in values:
        raise ConfigError(f"{name} is missing")
    if not isinstance(values[name], Mapping):
        raise ConfigError(f"{name} is {brief(values[name])}, must be a mapping")
    return values[name]


def _construct[T](kind: type[T], values: Mapping[Any, Any], prefix: str) -> T:
    """Make a dataclass from the values of a file. Lists become tuples; the dataclass checks their elements."""
    known = {field.name: field for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    for name in values:
        if name not in known:
            raise UnknownNameError("key", f"{prefix}{name if isinstance(name, str) else brief(name)}"[:100], known)
    missing = [f"{prefix}{name}" for name, field in known.items() if field.default is MISSING and name not in values]
    if missing:
        raise ConfigError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
