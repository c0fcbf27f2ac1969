"""What a recording says of itself: task, robot, topics, weights, software. Knows neither files nor middleware."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from emu_robot.errors import DataError
from emu_robot.robots.deployment import Deployment, parse_deployment

FORMAT = "emu_robot recording 1"
CONTRACT_TOPIC = "/recording_contract"
"""std_msgs/String in JSON, the first message of every recording."""
CONTRACT_KEY = "emu_robot_contract"
"""In custom_data of metadata.yaml: the same JSON."""
RELEASED = Path(__file__).resolve().parents[1] / "weights"


@dataclass(frozen=True, kw_only=True)
class Contract:
    """task: instruction of what was done, may be empty. robot: the deployment's YAML as text.

    topics: role -> absolute name. Roles: camera.<our name>, joint_states, gripper_joint_states (if the gripper has its
    own), arm_command, gripper_command (if it is a topic), and the names of our own topics. weights, weights_sha256:
    name, and hash of their manifest; empty where not
    known. software: package -> version, "git" -> commit. simulated_clock: the times are those of /clock.
    """

    task: str
    robot: str
    topics: Mapping[str, str]
    weights: str = ""
    weights_sha256: str = ""
    software: Mapping[str, str] = field(default_factory=dict)
    simulated_clock: bool = False

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str, source: str) -> "Contract":
        """Raises `DataError` naming `source` and what is not as `to_json` writes it."""
        try:
            values = dict(json.loads(text))
        except (ValueError, TypeError) as error:
            raise DataError(f"{source}: its contract is not JSON ({error})") from error
        given = values.pop("format", None)
        if given != FORMAT:
            raise DataError(f"{source}: unknown contract, format {given!r}; known: {FORMAT!r}")
        known = {setting.name for setting in fields(cls)}
        if values.keys() != known:
            differ = ", ".join(sorted(values.keys() ^ known))
            raise DataError(f"{source}: its contract lacks or adds: {differ}")
        return cls(**values)

    def deployment(self, source: str) -> Deployment:
        """Raises `ConfigError` naming `source` if the robot's text is wrong."""
        return parse_deployment(self.robot, f"{source}, its contract's robot")


def topics_of(robot: Deployment) -> dict[str, str]:
    """Role -> topic as the robot's file names it, of those that its drivers have."""
    names = {f"camera.{name}": topic for name, topic in robot.cameras.items()}
    names |= {"joint_states": robot.joint_states, "arm_command": robot.command_topic}
    gripper = robot.gripper
    if gripper is not None and gripper.joint_states:
        names["gripper_joint_states"] = gripper.joint_states
    if gripper is not None and gripper.kind != "gripper_command":
        names["gripper_command"] = gripper.topic
    return names


def weights_sha256(name: str) -> str:
    """Of the manifest, which holds the hash of every file; empty if there are no such weights on this machine."""
    for folder in (RELEASED / name, Path(name)):
        if name and (folder / "manifest.json").is_file():
            return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    return ""
