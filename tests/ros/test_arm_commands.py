"""Commands of an arm, and their rivals, with real nodes in place of the gate, the controllers and everybody else."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import running, wait_until
from control_msgs.action import FollowJointTrajectory
from rclpy.action import ActionClient
from rclpy.node import Node
from ros_robot import Peer
from spun_graph import Graph
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from emu_robot.errors import ConfigError
from emu_robot.robots.deployment import Deployment, Joints, read_deployment
from emu_robot_ros import joint_order, qos
from emu_robot_ros.arm_commands import ArmCommands

NAMES = ("a", "b", "c")
POSITION, VELOCITY = np.array([0.1, 0.2, 0.3]), np.array([1.0, 0.0, -1.0])
THREE = (1.0, 1.0, 1.0)
JOINTS = Joints(names=NAMES, lower=(-1.0, -1.0, -1.0), upper=THREE, velocity=THREE, acceleration=THREE, source="a test")
BY_TRAJECTORY = replace(read_deployment("panda_sim"), joints=JOINTS, command_topic="arm_controller/joint_trajectory")
BY_NUMBERS = replace(BY_TRAJECTORY, kind="positions", command_topic="forward_position_controller/commands")
CONTROLLER = "/left/forward_position_controller"


@pytest.fixture
def graph() -> Iterator[Graph]:
    found = Graph()
    yield found
    found.close()


def heard(graph: Graph, kind: type, topic: str) -> list[Any]:
    """What arrives on a topic from now on."""
    messages: list[Any] = []
    graph.add("listener").create_subscription(kind, topic, messages.append, qos.COMMANDS)
    return messages


def controller(graph: Graph, joints: list[str] | None) -> Node:
    """One that says which joints it takes."""
    node = graph.add("forward_position_controller")
    if joints is not None:
        node.declare_parameter("joints", joints)
    return node


def test_a_trajectory_of_one_point_goes_to_the_namespace_s_controller(graph: Graph):
    commands = ArmCommands(graph.node, BY_TRAJECTORY, period=0.02)
    messages = heard(graph, JointTrajectory, "/left/arm_controller/joint_trajectory")
    assert commands.not_ready() == commands.changed() == commands.rivals() == ""
    graph.until(lambda: messages, "a command", lambda: commands.send(POSITION, VELOCITY))
    (point,) = messages[0].points
    assert list(messages[0].joint_names) == list(NAMES)
    assert list(point.positions) == POSITION.tolist() and list(point.velocities) == VELOCITY.tolist()
    assert point.time_from_start.nanosec == 20_000_000
    commands.destroy()
    graph.until(lambda: graph.node.count_publishers("arm_controller/joint_trajectory") == 0, "the publisher to go")


def test_numbers_go_out_in_the_controller_s_order(graph: Graph):
    commands = ArmCommands(graph.node, BY_NUMBERS, period=0.02)
    messages = heard(graph, Float64MultiArray, f"{CONTROLLER}/commands")
    assert CONTROLLER in commands.not_ready() and "does not answer" in commands.not_ready()
    commands.send(POSITION, VELOCITY)
    controller(graph, ["c", "a", "b"])
    graph.until(lambda: not commands.not_ready(), "the controller's answer", commands.ask)
    graph.until(lambda: messages, "a command", lambda: commands.send(POSITION, VELOCITY))
    assert list(messages[0].data) == [0.3, 0.1, 0.2], "nothing goes out before the order is known"
    assert commands.changed() == ""


@pytest.mark.parametrize(
    ("joints", "said"),
    [
        (["a", "b", "d"], f"{CONTROLLER} takes a, b, d, the robot's are a, b, c"),
        (["a", "b"], f"{CONTROLLER} takes a, b, the robot's are a, b, c"),
        (["a", "b", "c", "c"], f"{CONTROLLER} takes a, b, c, c, the robot's are a, b, c"),
        (None, "has no parameter joints"),
    ],
)
def test_a_controller_of_other_joints_is_not_commanded(graph: Graph, joints: list[str] | None, said: str):
    commands = ArmCommands(graph.node, BY_NUMBERS, period=0.02)
    messages = heard(graph, Float64MultiArray, f"{CONTROLLER}/commands")
    controller(graph, joints)
    graph.until(lambda: "not answer" not in commands.not_ready(), "the controller's answer", commands.ask)
    assert said in commands.not_ready() and "\n" not in commands.not_ready()
    graph.until(lambda: graph.node.count_subscribers(f"{CONTROLLER}/commands"), "the listener")
    for _ in range(10):
        commands.send(POSITION, VELOCITY)
    end = time.monotonic() + 0.3
    graph.until(lambda: time.monotonic() > end, "nothing")
    assert messages == []


def test_an_order_that_changes_is_said_once_and_kept_to(graph: Graph):
    commands = ArmCommands(graph.node, BY_NUMBERS, period=0.02)
    messages = heard(graph, Float64MultiArray, f"{CONTROLLER}/commands")
    first = controller(graph, ["a", "b", "c"])
    graph.until(lambda: not commands.not_ready(), "the controller's answer", commands.ask)
    graph.remove(first)
    controller(graph, ["b", "a", "c"])
    said: list[str] = []
    graph.until(lambda: any(said), "the change", lambda: (commands.ask(), said.append(commands.changed()))[0])
    assert said[-1] == f"{CONTROLLER} takes b, a, c now, before it took a, b, c" and commands.changed() == ""
    graph.until(lambda: messages, "a command", lambda: commands.send(POSITION, VELOCITY))
    assert list(messages[0].data) == [0.2, 0.1, 0.3]


def test_a_controller_that_answers_no_more_is_not_ready(graph: Graph, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(joint_order, "STALE_S", 0.5)
    monkeypatch.setattr(joint_order, "PATIENCE_S", 0.2)
    commands = ArmCommands(graph.node, BY_NUMBERS, period=0.02)
    found = controller(graph, ["a", "b", "c"])
    graph.until(lambda: not commands.not_ready(), "the controller's answer", commands.ask)
    graph.remove(found)
    graph.until(commands.not_ready, "the silence to be noticed", commands.ask)
    assert "does not answer" in commands.not_ready()
    controller(graph, ["a", "b", "c"])
    graph.until(lambda: not commands.not_ready(), "an answer after unanswered questions", commands.ask)
    assert commands.changed() == ""


def test_the_robot_s_file_may_say_the_order(graph: Graph):
    commands = ArmCommands(graph.node, replace(BY_NUMBERS, command_joints=("b", "c", "a")), period=0.02)
    messages = heard(graph, Float64MultiArray, f"{CONTROLLER}/commands")
    assert commands.not_ready() == ""
    graph.until(lambda: messages, "a command", lambda: commands.send(POSITION, VELOCITY))
    assert list(messages[0].data) == [0.2, 0.3, 0.1]
    with pytest.raises(ConfigError, match="command_joints is a, b; must have each of a, b, c once"):
        ArmCommands(graph.node, replace(BY_NUMBERS, command_joints=("a", "b")), period=0.02)


@pytest.mark.parametrize("robot", [BY_TRAJECTORY, BY_NUMBERS])
@pytest.mark.parametrize("last", ["commands", "joint_trajectory", "joint_references"])
def test_a_publisher_on_any_interface_of_the_controller_is_a_rival(graph: Graph, robot: Deployment, last: str):
    commands = ArmCommands(graph.node, robot, period=0.02)
    topic = f"/left/{robot.command_topic.partition('/')[0]}/{last}"
    other = graph.add("other").create_publisher(
        JointTrajectory if robot.kind == "trajectory" else Float64MultiArray, topic, qos.COMMANDS
    )
    own = topic.endswith(robot.command_topic)
    said = f"{topic} has {'2 publishers' if own else '1 publisher'} (/left/other"
    graph.until(lambda: commands.rivals().startswith(said), "the rival, with its name")
    other.destroy()
    graph.until(lambda: not commands.rivals(), "the rival to go")


@pytest.mark.parametrize("robot", [BY_TRAJECTORY, BY_NUMBERS])
def test_a_client_of_the_controller_s_action_is_a_rival(graph: Graph, robot: Deployment):
    """Such as MoveIt; whether the action is served does not matter."""
    commands = ArmCommands(graph.node, robot, period=0.02)
    action = f"{robot.command_topic.partition('/')[0]}/follow_joint_trajectory"
    assert commands.rivals() == ""
    move_group = graph.add("move_group")
    client = ActionClient(move_group, FollowJointTrajectory, action)
    said = f"/left/{action} has 1 client (/left/move_group)"
    graph.until(lambda: commands.rivals().startswith(said), "the rival, with its name")
    client.destroy()
    graph.remove(move_group)
    graph.until(lambda: not commands.rivals(), "the rival to go")


def test_those_who_command_another_arm_are_none(graph: Graph):
    commands = ArmCommands(graph.node, BY_TRAJECTORY, period=0.02)
    other = graph.add("other")
    other.create_publisher(JointTrajectory, "/right/arm_controller/joint_trajectory", qos.COMMANDS)
    other.create_publisher(JointTrajectory, "/left/other_controller/joint_trajectory", qos.COMMANDS)
    ActionClient(other, FollowJointTrajectory, "/right/arm_controller/follow_joint_trajectory")
    graph.until(lambda: other.count_publishers("/left/other_controller/joint_trajectory"), "the publishers")
    assert commands.rivals() == ""


def test_a_remapped_topic_is_looked_at_where_it_is(graph: Graph):
    node = graph.add("gate", cli_args=["--ros-args", "-r", "arm_controller/joint_trajectory:=/real/joint_trajectory"])
    commands = ArmCommands(node, BY_TRAJECTORY, period=0.02)
    assert commands.rivals() == ""
    graph.add("other").create_publisher(JointTrajectory, "/real/joint_trajectory", qos.COMMANDS)
    graph.until(commands.rivals, "the rival")
    assert commands.rivals().startswith("/real/joint_trajectory has 2 publishers (/left/gate, /left/other)")


def test_a_second_gate_of_the_same_name_is_a_rival(graph: Graph):
    commands = ArmCommands(graph.node, BY_TRAJECTORY, period=0.02)
    ArmCommands(graph.add("safety"), BY_TRAJECTORY, period=0.02)
    graph.until(commands.rivals, "the rival")
    assert "has 2 publishers" in commands.rivals()


def test_configured_again_it_is_not_its_own_rival(graph: Graph):
    for _ in range(3):
        commands = ArmCommands(graph.node, BY_NUMBERS, period=0.02)
        commands.ask()
        graph.until(lambda: not commands.rivals(), "the one before to go")  # noqa: B023
        commands.destroy()


def test_the_gate_does_not_arm_beside_a_client_of_the_controller_s_action(estop_file: Path):
    peer = Peer()
    client = ActionClient(peer.node, FollowJointTrajectory, "/arm_controller/follow_joint_trajectory")
    try:
        with running("emu_robot_ros.safety_node", "-p", f"estop_file:={estop_file}"):
            said: list[str] = []

            def is_refused() -> bool:
                said.append(peer.arm().message)  # until then it has no joint state, or has not seen the client
                return "/arm_controller/follow_joint_trajectory has 1 client (/peer)" in said[-1]

            wait_until(is_refused, "the refusal")
            assert peer.commands == []
    finally:
        client.destroy()
        peer.close()
