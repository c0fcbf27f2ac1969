from pathlib import Path

import numpy as np
import pytest
import yaml

from emu_robot.deployment import ROBOTS, deployments, read_deployment
from emu_robot.errors import ConfigError, UnknownNameError
from emu_robot.robot_spec import PANDA


@pytest.mark.parametrize("name", deployments())
def test_every_robot_that_ships_is_complete(name: str):
    robot = read_deployment(name)
    limits = robot.limits
    assert robot.name == name and len(limits.lower) == len(robot.dimension_names) == len(robot.joints.names) + 1
    assert len(robot.joints.source) > 20
    for opening in (0.0, 0.3, 1.0):
        assert robot.gripper.opening(robot.gripper.position(opening)) == pytest.approx(opening)


def test_the_simulated_panda_is_the_policy_s():
    robot = read_deployment("panda_sim")
    assert robot.joints.lower == PANDA.joint_lower and robot.joints.upper == PANDA.joint_upper
    assert set(robot.cameras) == set(PANDA.cameras) and robot.planner_camera == PANDA.planner_camera
    assert np.isin(PANDA.joint_names, robot.joints.names).all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("joints.velocity", [1.0], "joints.velocity has 1 values for 7 joints"),
        ("joints.speed", [1.0], "unknown key 'joints.speed'"),
        ("gripper.kind", "suction", "unknown gripper.kind 'suction'; known: trajectory, positions, gripper_command"),
        ("gripper.open", 0.0, "are the same"),
        ("planner_camera", "top", "unknown planner_camera 'top'; known: front, wrist"),
        ("camera", "top", "unknown key 'camera'"),
        ("kind", "torque", "unknown kind 'torque'"),
        ("joints", 3, "joints is 3, must be a mapping"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, key: str, value: object, message: str):
    values = yaml.safe_load((ROBOTS / "panda_sim.yaml").read_text())
    *parents, last = key.split(".")
    (values[parents[0]] if parents else values)[last] = value
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="mine.yaml") as found:
        read_deployment(path)
    assert message in str(found.value)


def test_a_missing_key_and_a_missing_file_are_named(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("joints: {names: [a]}\ngripper: {}\n")
    with pytest.raises(ConfigError, match="lower"):
        read_deployment(path)
    path.write_text("a: [")
    with pytest.raises(ConfigError, match="not YAML"):
        read_deployment(path)
    with pytest.raises(UnknownNameError, match="franka_fr3"):
        read_deployment("kuka")
