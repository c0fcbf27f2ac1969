"""Robots that do not ship: an arm without gripper, and one whose gripper tells of itself on a topic of its own."""

from pathlib import Path
from typing import Any

import yaml

from emu_robot.robots.deployment import Deployment, parse_deployment

SIX_JOINTS = """
name: six
joints:
  names: [base, shoulder, elbow, wrist_1, wrist_2, wrist_3]
  lower: [-3.0, -2.0, -2.5, -3.0, -2.0, -6.0]
  upper: [3.0, 2.0, 2.5, 3.0, 2.0, 6.0]
  velocity: [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
  acceleration: [4.0, 4.0, 4.0, 8.0, 8.0, 8.0]
  source: "chosen"
command_topic: /arm_controller/joint_trajectory
joint_states: /joint_states
cameras: {front: /front/image_raw}
planner_camera: front
"""
HAND_APART = SIX_JOINTS.replace("name: six", "name: apart") + (
    "gripper: {joint: finger, closed: 0.0, open: 0.04, topic: /hand_controller/joint_trajectory, "
    "joint_states: /hand/joint_states}\n"
)
SIX, APART = parse_deployment(SIX_JOINTS, "six"), parse_deployment(HAND_APART, "apart")


def write_robot(folder: Path, text: str) -> Path:
    """Its file."""
    path = folder / "robot.yaml"
    path.write_text(text)
    return path


def changed(text: str, key: str, value: Any) -> str:
    """The file with the value of a key such as "joints.lower"."""
    values = yaml.safe_load(text)
    *parents, last = key.split(".")
    part = values
    for parent in parents:
        part = part[parent]
    part[last] = value
    return yaml.safe_dump(values)


def robot_with(key: str, value: Any, text: str = HAND_APART) -> Deployment:
    """Raises as `parse_deployment` does."""
    return parse_deployment(changed(text, key, value), "mine.yaml")
