"""Which topics a recording must name, for robots with and without gripper."""

from robots import APART, SIX, robot_with

from emu_robot.data.recording_contract import topics_of
from emu_robot.robots.deployment import read_deployment

ARM = {
    "camera.front": "/front/image_raw",
    "joint_states": "/joint_states",
    "arm_command": "/arm_controller/joint_trajectory",
}


def test_a_robot_without_gripper_has_no_topic_of_one():
    assert topics_of(SIX) == ARM


def test_a_gripper_s_own_joint_states_have_a_role():
    hand = {"gripper_joint_states": "/hand/joint_states", "gripper_command": "/hand_controller/joint_trajectory"}
    assert topics_of(APART) == ARM | hand
    assert "gripper_joint_states" not in topics_of(read_deployment("panda_sim"))


def test_an_action_is_no_topic():
    assert "gripper_command" not in topics_of(robot_with("gripper.kind", "gripper_command"))
