"""A recording's description: task, robot, topics, weights, software. Knows neither files nor middleware."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from emu_robot.errors import DataError
from emu_robot.robots.deployment import Deployment, parse_deployment
from emu_robot.shared.typed import first_line

FORMAT = "emu_robot recording 1"
CONTRACT_TOPIC = "/recording_contract"
"""std_msgs/String in JSON, the first message of every recording."""
CONTRACT_KEY = "emu_robot_contract"
"""Key of the same JSON in custom_data of metadata.yaml."""
RELEASED = Path(__file__).resolve().parents[1] / "weights"


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The first message of a recording."""

    task: str
    """Instruction; may be empty."""
    robot: str
    """The deployment's YAML as text."""
    topics: Mapping[str, str]
    """Role -> absolute name. Roles: camera.<our name>, joint_states, gripper_joint_states (if the gripper has its own),
    arm_command, gripper_command (if it is a topic), and the names of our own topics."""
    weights: str = ""
    """Name of the policy's weights; empty if unknown."""
    weights_sha256: str = ""
    """Hash of their manifest; empty if unknown."""
    software: Mapping[str, str] = field(default_factory=dict)
    """Package -> version, and "git" -> commit."""
    simulated_clock: bool = False
    """Whether times are those of /clock."""

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str, source: str) -> "Contract":
        """The contract that `to_json` wrote. Raises `DataError` naming `source` and the fault."""
        try:
            values = dict(json.loads(text))
        except (ValueError, TypeError) as error:
            raise DataError(f"{source}: its contract is not JSON ({first_line(error)})") from error
        given = values.pop("format", None)
        if given != FORMAT:
            raise DataError(f"{source}: unknown contract, format {given!r}; known: {FORMAT!r}")
        known = {setting.name for setting in fields(cls)}
        if values.keys() != known:
            differ = ", ".join(sorted(values.keys() ^ known))
            raise DataError(f"{source}: its contract lacks or adds: {differ}")
        return cls(**values)

    def deployment(self, source: str) -> Deployment:
        """The robot's deployment. Raises `ConfigError` naming `source` if its text is wrong."""
        return parse_deployment(self.robot, f"{source}, its contract's robot")


def topics_of(robot: Deployment) -> dict[str, str]:
    """Role -> topic of the robot's drivers, as its file names it."""
    names = {f"camera.{name}": topic for name, topic in robot.cameras.items()}
    names |= {"joint_states": robot.joint_states, "arm_command": robot.command_topic}
    gripper = robot.gripper
    if gripper is not None and gripper.joint_states:
        names["gripper_joint_states"] = gripper.joint_states
    if gripper is not None and gripper.kind != "gripper_command":
        names["gripper_command"] = gripper.topic
    return names


def weights_sha256(name: str) -> str:
    """Hash of the manifest, which holds the hash of every file; empty if this machine lacks the weights."""
    for folder in (RELEASED / name, Path(name)):
        if name and (folder / "manifest.json").is_file():
            return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    return ""
