"""control_msgs as `make ros` builds it: the same types as ROS 2 Jazzy's, and they go from process to process."""

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import control_msgs
import pytest
import rclpy
from builtin_interfaces.msg import Duration
from conftest import wait_until
from control_msgs.action import FollowJointTrajectory, GripperCommand
from control_msgs.msg import JointComponentTolerance, JointTolerance
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectoryPoint

ROOT = Path(__file__).parents[2]
HASHES = {
    "action/FollowJointTrajectory": "738ebcb7a2d7cfa42f9f1001cc99ce3a4383d1cfe508015d9be8485e4b1c66f6",
    "action/FollowJointTrajectory_FeedbackMessage": "80398fcb9674a79081a9906e2ccf0c804dd7cb15e22e362e606ee87186beab71",
    "action/FollowJointTrajectory_GetResult": "e3ceb38e3e1867c8dc0f46014df26e90eb93422f27e9e97f936e07f94be4bc8b",
    "action/FollowJointTrajectory_SendGoal": "b13789dddc325a7a962825c45e28c77d37237ec129dd0c34dc5994562938c57f",
    "action/GripperCommand": "e17c0e644eccf14bea84a0a93e0977182872c2eb7873ca6694900059b46dbc84",
    "action/GripperCommand_FeedbackMessage": "392ff03fcd872f9dc2405cbeb2897fcf011ad9998458b6aa85c603b8a49e431d",
    "action/GripperCommand_GetResult": "7e60a7606063d4a2728d21badac099e68b734a196ac3ab42d1d4c668eb0bb3cd",
    "action/GripperCommand_SendGoal": "6bf8cc4ce80cd499e7dd3258c03c50c3fa6672b469ff8355339ef1df77fcd212",
    "msg/GripperCommand": "57eb8f326c9889ca8bb34ead82cc94cc09bf6bc5c3b6c09546dca3a00b589890",
    "msg/JointComponentTolerance": "739ea7566931944d33830fa10f1bf5e7a7fbdc3172bce7a7eaac642bd6e3ffa4",
    "msg/JointTolerance": "c254f9cece0f3b733017b6990fd46d1326e25242d6b8844398c97d9a88e7d648",
    "msg/JointTrajectoryControllerState": "51d8dd89cc624cbe9daaeeb4d80d6de9b86168ffdc3be41fefc0953e3c26e480",
}
"""RIHS01 hashes of control_msgs 5.8.0, branch jazzy of ros-controls/control_msgs, as its own build writes them. Those
of the actions have not changed since 5.0.0; the controller's state has a field more since 5.3.0."""


def test_the_types_are_those_of_jazzy():
    share = Path(str(control_msgs.__file__)).parents[4] / "share/control_msgs"
    built: dict[str, str] = {}
    for path in share.glob("*/*.json"):
        for entry in json.loads(path.read_text())["type_hashes"]:
            built[entry["type_name"]] = entry["hash_string"]
    for name, expected in HASHES.items():
        assert built[f"control_msgs/{name}"] == f"RIHS01_{expected}", name


@pytest.fixture
def node() -> Iterator[Node]:
    """Beside a process that serves both actions."""
    context = rclpy.Context()
    rclpy.init(context=context)
    found = Node("client", context=context)
    servers = Path(__file__).with_name("action_servers.py")
    with subprocess.Popen([sys.executable, str(servers)], stdout=subprocess.PIPE, text=True) as process:
        yield found
        process.kill()
    found.destroy_node()
    rclpy.shutdown(context=context)


def sent(node: Node, kind: Any, name: str, goal: Any, n_feedback: int) -> tuple[Any, list[Any]]:
    """The result that another process answers a goal with, and its feedback.

    Feedback is lost as long as that process has not discovered who listens; so the goal is sent until it has.
    """
    client, feedback = ActionClient(node, kind, name), list[Any]()
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)

    def spun_until(condition: Callable[[], bool], seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not condition() and time.monotonic() < until:
            executor.spin_once(timeout_sec=0.05)
        return condition()

    def attempt() -> Any:
        feedback.clear()
        accepted = client.send_goal_async(goal, feedback_callback=lambda message: feedback.append(message.feedback))
        assert spun_until(accepted.done, 30), f"{name} does not answer"
        handle: Any = accepted.result()
        result = handle.get_result_async()
        assert spun_until(result.done, 30), f"{name} has no result"
        return result.result().result if spun_until(lambda: len(feedback) == n_feedback, 1) else None

    assert client.wait_for_server(30), f"{name} is not there"
    result = next(filter(None, (attempt() for _ in range(20))), None)
    client.destroy()
    executor.shutdown()
    return result, feedback


def hash_on_the_wire(node: Node, topic: str) -> str:
    """Of what another process publishes on a topic, as the middleware announces it."""
    wait_until(lambda: node.count_publishers(topic), f"a publisher of {topic}")
    return str(node.get_publishers_info_by_topic(topic)[0].topic_type_hash)


def test_a_gripper_s_goal_goes_to_another_process_and_back(node: Node):
    goal = GripperCommand.Goal()
    goal.command.position, goal.command.max_effort = 0.03, 40.0
    result, feedback = sent(node, GripperCommand, "gripper_controller/gripper_cmd", goal, 1)
    assert (result.position, result.effort, result.stalled, result.reached_goal) == (0.03, 40.0, True, True)
    assert [(one.position, one.effort) for one in feedback] == [(0.03, 40.0)]
    said = hash_on_the_wire(node, "gripper_controller/gripper_cmd/_action/feedback")
    assert HASHES["action/GripperCommand_FeedbackMessage"] in said.lower()


def test_a_trajectory_goes_to_another_process_and_back(node: Node):
    goal = FollowJointTrajectory.Goal()
    goal.trajectory.joint_names = ["a", "b"]
    goal.trajectory.points = [JointTrajectoryPoint(positions=[0.1 * i, -0.2], velocities=[1.0, 0.0]) for i in range(3)]
    goal.path_tolerance = [JointTolerance(name="a", position=0.5)]
    rotation = JointComponentTolerance.ROTATION
    goal.component_goal_tolerance = [JointComponentTolerance(joint_name="b", component=rotation, velocity=0.25)]
    goal.goal_time_tolerance = Duration(sec=2, nanosec=5)
    result, feedback = sent(node, FollowJointTrajectory, "arm_controller/follow_joint_trajectory", goal, 3)
    assert (result.error_code, result.error_string) == (-5, "a 0.5, b 5 0.25, 2.5")
    assert list(feedback[-1].joint_names) == ["a", "b"] and feedback[-1].actual == goal.trajectory.points[-1]
    said = hash_on_the_wire(node, "arm_controller/follow_joint_trajectory/_action/feedback")
    assert HASHES["action/FollowJointTrajectory_FeedbackMessage"] in said.lower()


@pytest.fixture
def without_ros() -> ModuleType:
    spec = importlib.util.spec_from_file_location("without_ros", ROOT / "ros_ws/without_ros.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ours_is_built_only_where_no_package_brings_it(without_ros: ModuleType, tmp_path: Path):
    assert not without_ros.brings_control_msgs(tmp_path)
    manifest = tmp_path / "share/control_msgs/package.xml"
    manifest.parent.mkdir(parents=True)
    manifest.write_text((without_ros.CONTROL_MSGS / "package.xml").read_text())
    assert not without_ros.brings_control_msgs(tmp_path), "what was built before is built again when it changes"
    manifest.write_text("<package><name>control_msgs</name><maintainer>another</maintainer></package>")
    assert without_ros.brings_control_msgs(tmp_path)


def test_a_workspace_of_a_real_ros_does_not_see_it(without_ros: ModuleType):
    folder = without_ros.CONTROL_MSGS
    assert (folder.parent / "COLCON_IGNORE").exists() and without_ros.SOURCES not in folder.parents
