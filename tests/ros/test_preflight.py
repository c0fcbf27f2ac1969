"""What the preflight says of a graph that is well, and of the same with one thing wrong at a time."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time as TimeMessage
from conftest import WAIT_S, running, wait_until
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.timer import Timer
from ros_robot import ROBOT, Peer
from sensor_msgs.msg import CompressedImage, Image, JointState
from test_sensors import jpeg
from trajectory_msgs.msg import JointTrajectory

from emu_robot.robots.deployment import ROBOTS
from emu_robot_ros import qos
from emu_robot_ros.conversions import from_image
from emu_robot_ros.preflight import look

GATE = "emu_robot_ros.safety_node"
LISTEN_S = 0.6


def a_gripper_controller(node: Node) -> Any:
    """It takes commands and does nothing."""
    return node.create_subscription(JointTrajectory, ROBOT.topics["gripper.topic"], lambda message: None, qos.COMMANDS)


class Rig:
    """An arm that is complete: a peer with a gripper's controller and two cameras.

    stop: names of cameras that send nothing; frozen: all send the same picture; dark: a black one; old: stamps lie back
    by so much [s].
    """

    def __init__(self, namespace: str = "") -> None:
        self.peer = Peer(namespace=namespace)
        self.node = self.peer.node
        self.stop: set[str] = set()
        self.frozen, self.dark, self.old, self.encoding, self._count = False, False, 0.0, "rgb8", 0
        self._publishers = {
            name: self.node.create_publisher(Image, topic, qos.CAMERA) for name, topic in ROBOT.cameras.items()
        }
        self.gripper = a_gripper_controller(self.node)
        self._timer: Timer = self.node.create_timer(0.04, self._send)

    def _send(self) -> None:
        self._count += not self.frozen
        now = self.node.get_clock().now().nanoseconds - int(1e9 * self.old)
        pixels = np.arange(64 * 48 * 3).reshape(48, 64, 3) + self._count
        image = from_image((pixels % 250 * (not self.dark)).astype(np.uint8), self.node.get_clock().now().to_msg())
        image.header.stamp.sec, image.header.stamp.nanosec = divmod(now, 1_000_000_000)
        image.encoding = self.encoding
        for name, publisher in self._publishers.items():
            if name not in self.stop:
                publisher.publish(image)

    def close(self) -> None:
        self.node.destroy_timer(self._timer)
        self.peer.close()


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    found = Rig()
    yield found
    found.close()


@pytest.fixture(scope="module")
def gate(rig: Rig) -> Iterator[subprocess.Popen[str]]:
    with running(GATE) as process:
        wait_until(lambda: rig.peer.state == "disarmed", "the gate to say that it is there")
        yield process


def problems(expected: tuple[str, ...] = ("safety",)) -> list[str]:
    """Of everything, as the command line says them."""
    checks = look(ROBOT, list(expected), listen_s=LISTEN_S, most_s=LISTEN_S)
    return [check.problem for check in checks if check.problem is not None]


def until(condition: Callable[[list[str]], bool], expected: tuple[str, ...] = ("safety",)) -> None:
    """Look again and again: on a busy machine nodes take their time to find each other."""
    last = time.monotonic() + WAIT_S
    while not condition(found := problems(expected)):
        assert time.monotonic() < last, f"there was {found}"


def until_said(said: str, expected: tuple[str, ...] = ("safety",)) -> None:
    until(lambda found: any(said in problem for problem in found), expected)


def test_a_graph_that_is_well_has_no_problem(rig: Rig, gate: subprocess.Popen[str]):
    checks = look(ROBOT, ["safety"], listen_s=LISTEN_S, most_s=WAIT_S)
    said = [check.name for check in checks]
    assert not [check.problem for check in checks if check.problem]
    assert "/front/image_raw: 64 x 48 rgb8" in said
    assert "/arm_controller/joint_trajectory is taken by /peer" in said
    assert "/arm_controller/joint_trajectory is given by /safety" in said
    assert "safety gate: disarmed (not armed)" in said


def test_another_arm_beside_it_is_no_part_of_it(rig: Rig, gate: subprocess.Popen[str]):
    left = Rig("left")
    try:
        with running(GATE, "-r", "__ns:=/left"):
            checks = look(ROBOT, ["safety"], listen_s=LISTEN_S, most_s=WAIT_S, namespace="/left")
            until(lambda found: not found)
        said = [check.name for check in checks]
        assert not [check.problem for check in checks if check.problem]
        assert "/left/arm_controller/joint_trajectory is given by /left/safety" in said
        assert "/left/front/image_raw: 64 x 48 rgb8" in said and "node left/safety is active" in said
        checks = look(ROBOT, ["safety"], listen_s=LISTEN_S, most_s=LISTEN_S, namespace="/right")
        found = " | ".join(check.problem for check in checks if check.problem)
        assert "no joint states on /right/joint_states (there is /joint_states, /left/joint_states)" in found
        assert "the node right/safety does not run, or hangs. Start it: emu-robot bringup namespace=right" in found
    finally:
        left.close()


@contextmanager
def a_rival(rig: Rig) -> Iterator[None]:
    publisher = rig.node.create_publisher(JointTrajectory, ROBOT.command_topic, qos.COMMANDS)
    try:
        yield
    finally:
        rig.node.destroy_publisher(publisher)


@contextmanager
def no_gripper_controller(rig: Rig) -> Iterator[None]:
    rig.node.destroy_subscription(rig.gripper)
    try:
        yield
    finally:
        rig.gripper = a_gripper_controller(rig.node)


@contextmanager
def a_node_that_hangs(name: str) -> Iterator[None]:
    """It is there, but answers no question."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node(name, context=context)
    try:
        yield
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


@contextmanager
def changed(what: object, **values: Any) -> Iterator[None]:
    before = {name: getattr(what, name) for name in values}
    for name, value in values.items():
        setattr(what, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(what, name, value)


@contextmanager
def an_emergency_stop(rig: Rig) -> Iterator[None]:
    rig.peer.estop()
    try:
        yield
    finally:
        wait_until(lambda: rig.peer.reset().success, "reset")


@contextmanager
def joints_without_the_wrist(rig: Rig) -> Iterator[None]:
    publisher = rig.node.create_publisher(JointState, ROBOT.joint_states, qos.JOINT_STATES_OUT)

    def send() -> None:
        message = JointState(name=list(ROBOT.joints.names[:5]), position=[0.0] * 5)
        message.header.stamp = rig.node.get_clock().now().to_msg()
        publisher.publish(message)

    timer = rig.node.create_timer(0.02, send)
    try:
        with changed(rig.peer, senses=False):
            yield
    finally:
        rig.node.destroy_timer(timer)
        rig.node.destroy_publisher(publisher)


@contextmanager
def a_stopped_gate(process: subprocess.Popen[str]) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def a_motion_planner(rig: Rig) -> Iterator[None]:
    from control_msgs.action import FollowJointTrajectory

    client = ActionClient(rig.node, FollowJointTrajectory, "arm_controller/follow_joint_trajectory")
    try:
        yield
    finally:
        client.destroy()


def lying_now_and_then(message: JointState) -> None:
    if message.header.stamp.nanosec // 10_000_000 % 2:
        message.position = [-1.0, *list(message.position)[1:]]


FAULTS: dict[str, Callable[[Rig], Any]] = {
    "/arm_controller/follow_joint_trajectory has 1 client (": a_motion_planner,
    "the safety gate would not believe ": lambda rig: changed(rig.peer, garble=lying_now_and_then),
    "/peer publishes /joint_states but nothing came": lambda rig: changed(rig.peer, senses=False),
    "/joint_states lacks joint6, joint7, gripper; it has joint1": joints_without_the_wrist,
    "joint2 is at 2.000, not in [-1.7628, 1.7628]": lambda rig: changed(
        rig.peer, position=np.array([0.0, 2.0, 0.0, -2.0, 0.0, 2.0, 0.0, 1.0])
    ),
    "/peer publishes /wrist/image_raw but nothing came": lambda rig: changed(rig, stop={"wrist"}),
    "times the same picture. A real camera has frozen": lambda rig: changed(rig, frozen=True),
    "ms old, at most 300 are allowed. Synchronise the clocks": lambda rig: changed(rig, old=2.0),
    "/front/image_raw is stamped 2.0": lambda rig: changed(rig, old=-2.01),
    "/wrist/image_raw: shows nothing. Is its lens covered": lambda rig: changed(rig, dark=True),
    "image encoding '8UC3'; known: rgb8": lambda rig: changed(rig, encoding="8UC3"),
    "has other publishers than one safety gate: ": a_rival,
    "no node takes commands on /gripper_controller/joint_trajectory; trajectory_msgs/msg/JointTrajectory is taken on: "
    "/arm_controller/joint_trajectory": no_gripper_controller,
    "several nodes are called /peer": lambda rig: a_node_that_hangs("peer"),
    "the node planner does not answer: it still loads, hangs": lambda rig: a_node_that_hangs("planner"),
    "the safety gate is in estop (requested). When its cause is gone: ros2 service call": an_emergency_stop,
}


@pytest.mark.parametrize("said", FAULTS)
def test_what_is_wrong_is_said(rig: Rig, gate: subprocess.Popen[str], said: str):
    with FAULTS[said](rig):
        until_said(said)


def test_compressed_cameras_are_looked_at(rig: Rig):
    topic = "/packed/image_raw/compressed"
    robot = replace(ROBOT, cameras={"packed": topic}, planner_camera="packed")
    publisher = rig.node.create_publisher(CompressedImage, topic, qos.CAMERA)

    def send() -> None:
        message = jpeg(np.arange(48 * 64 * 3).reshape(48, 64, 3).astype(np.uint8), rig.node.get_clock().now().to_msg())
        message.data = message.data[: len(message.data) // 2] if broken else message.data
        message.header.stamp = TimeMessage() if unstamped else message.header.stamp
        publisher.publish(message)

    def said() -> list[str]:
        checks = look(robot, [], listen_s=LISTEN_S, most_s=LISTEN_S)
        return [check.problem or check.name for check in checks if topic in (check.problem or check.name)]

    broken = unstamped = False
    timer = rig.node.create_timer(0.04, send)
    wait_until(lambda: f"{topic}: 64 x 48 rgb8; jpeg compressed bgr8" in said(), "its picture")
    broken = True
    wait_until(lambda: any("JPEG picture that is damaged, cut off, or none" in line for line in said()), "the damage")
    broken, unstamped = False, True
    wait_until(lambda: any(f"{topic} is not stamped" in line for line in said()), "the stamp")
    rig.node.destroy_timer(timer)
    rig.node.destroy_publisher(publisher)


def test_a_gate_that_is_stopped_is_named(rig: Rig, gate: subprocess.Popen[str]):
    with a_stopped_gate(gate):
        until_said("the node safety does not run, or hangs")
    until(lambda found: not found)


def test_a_node_that_should_run_is_named(rig: Rig, gate: subprocess.Popen[str]):
    until_said("the node planner does not run, or hangs. Start it: emu-robot bringup", ("safety", "planner"))


def test_a_gate_for_another_robot_is_named(rig: Rig, tmp_path: Path):
    other = tmp_path / "lab.yaml"
    other.write_text((ROBOTS / "panda_sim.yaml").read_text().replace("name: panda_sim", "name: lab"))
    with running(GATE, "-p", f"robot:={other}"):
        until_said("the safety gate was started for lab, this is panda_sim")


def test_a_gate_on_a_clock_of_its_own_is_named(rig: Rig):
    with running(GATE, "-p", "use_sim_time:=true"):
        until_said("use_sim_time is set and no node publishes /clock")


def test_a_gate_that_is_not_active_is_named(rig: Rig):
    with running(GATE, "-p", "autostart:=false"):
        until_said("the node safety is unconfigured. Its log says why")


def test_with_nothing_running_everything_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "57")
    start = time.monotonic()
    found = problems()
    assert time.monotonic() - start < 8
    assert [problem.split()[0] for problem in found] == ["no", "no", "no", "no", "no", "the"]
