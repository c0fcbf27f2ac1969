"""Pictures and joint states as they come from drivers, good and bad, through a node that listens."""

import array
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time as TimeMessage
from conftest import wait_until
from PIL import Image as PillowImage
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_robot import ROBOT, START
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from spun_nodes import SpunNodes

from emu_robot.errors import EmuRobotError
from emu_robot.observation.camera_messages import is_compressed
from emu_robot.observation.image_fit import ImageFit
from emu_robot.robots.deployment import Deployment
from emu_robot_ros import qos
from emu_robot_ros.conversions import from_image, stamp_of
from emu_robot_ros.node_clock import NodeClock
from emu_robot_ros.sensors import Sensors

MIXED = replace(ROBOT, cameras={"front": "/front/image_raw", "wrist": "/wrist/image_raw/compressed"})


def scene(number: int) -> np.ndarray:
    """(48, 64, 3): slow changes over the picture, and each one brighter than the one before."""
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([2 * x, 3 * y, np.full_like(x, 5 * number % 200)], -1).astype(np.uint8)


def jpeg(image: np.ndarray, stamp: TimeMessage) -> CompressedImage:
    out = io.BytesIO()
    PillowImage.fromarray(image).save(out, "JPEG", quality=95)
    message = CompressedImage(format="rgb8; jpeg compressed bgr8", data=array.array("B", out.getvalue()))
    message.header.stamp = stamp
    return message


class Drivers:
    """Cameras at 20 Hz, joint states at 100 Hz, of a node of their own. spoil: topic -> what becomes of its messages.

    time: what stamps say [s].
    """

    def __init__(self, robot: Deployment, context: rclpy.Context) -> None:
        self.node = Node("drivers", context=context)
        self.robot, self.number = robot, 0
        self.spoil: dict[str, Callable[[Any], Any]] = {}
        self.time: Callable[[], float] = time.time
        self._cameras = {
            topic: self.node.create_publisher(CompressedImage if is_compressed(topic) else Image, topic, qos.CAMERA)
            for topic in robot.cameras.values()
        }
        self.states = {robot.joint_states: list(robot.dimension_names)}
        if robot.gripper is not None and robot.gripper.joint_states:
            self.states = {
                robot.joint_states: list(robot.joints.names),
                robot.gripper.joint_states: [robot.gripper.joint],
            }
        self._states = {
            topic: self.node.create_publisher(JointState, topic, qos.JOINT_STATES_OUT) for topic in self.states
        }
        self.node.create_timer(0.05, self._show)
        self.node.create_timer(0.01, self._feel)

    def _send(self, publisher: Any, topic: str, message: Any) -> None:
        message = self.spoil.get(topic, lambda one: one)(message)
        if message is not None:
            publisher.publish(message)

    def _show(self) -> None:
        self.number += 1
        image, stamp = scene(self.number), stamp_of(self.time())
        for topic, publisher in self._cameras.items():
            self._send(publisher, topic, jpeg(image, stamp) if is_compressed(topic) else from_image(image, stamp))

    def _feel(self) -> None:
        where = dict(zip(self.robot.dimension_names, START, strict=True))
        for topic, publisher in self._states.items():
            names = self.states[topic]
            message = JointState(name=names, position=[float(where[name]) for name in names])
            message.header.stamp = stamp_of(self.time())
            self._send(publisher, topic, message)


class Rig(SpunNodes):
    """Drivers, and a node that listens to them."""

    def __init__(self, robot: Deployment, **options: Any) -> None:
        super().__init__()
        self.drivers, self.node = Drivers(robot, self.context), Node("listener", context=self.context, **options)
        self.sensors = Sensors(self.node, robot, list(robot.cameras), 48, ImageFit.stretch)
        self.spin(self.drivers.node, self.node)

    def until(self, said: str) -> float:
        """Wait until the problem is that one; empty for none."""
        return wait_until(lambda: (self.sensors.problem() == "") if not said else said in self.sensors.problem(), said)


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    found = Rig(getattr(request, "param", MIXED))
    yield found
    found.close()


def restamped(shift: float) -> Callable[[Any], Any]:
    def change(message: Any) -> Any:
        stamp = message.header.stamp
        message.header.stamp = stamp_of(stamp.sec + 1e-9 * stamp.nanosec + shift)
        return message

    return change


def changed(**fields: Any) -> Callable[[Any], Any]:
    def change(message: Any) -> Any:
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return change


def cut_off(message: CompressedImage) -> CompressedImage:
    message.data = message.data[: len(message.data) // 2]
    return message


def unstamped(message: Any) -> Any:
    message.header.stamp = TimeMessage()
    return message


FRONT, WRIST = MIXED.cameras.values()
FAULTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "the picture of camera front is stamped 4.": (FRONT, restamped(4.5)),
    "the picture of camera front is 1.0": (FRONT, restamped(-1.0)),
    "the picture of camera wrist is not stamped": (WRIST, unstamped),
    "no picture of camera wrist came for 0.": (WRIST, lambda message: None),
    "the picture of camera wrist cannot be used: JPEG picture that is damaged, cut off": (WRIST, cut_off),
    "the picture of camera wrist cannot be used: compressed image format '16UC1; compressedDepth'; known": (
        WRIST, changed(format="16UC1; compressedDepth"),
    ),
    "the picture of camera front cannot be used: image encoding '8UC3'; known: rgb8": (FRONT, changed(encoding="8UC3")),
    "the picture of camera front cannot be used: image encoding '16UC1'": (FRONT, changed(encoding="16UC1")),
    "the picture of camera front cannot be used: image data: got rows of 192 bytes, 3 per pixel": (
        FRONT, changed(encoding="yuyv"),
    ),
    "the picture of camera front shows nothing": (FRONT, changed(data=array.array("B", bytes(48 * 192)))),
    "the joint state is stamped 1.": (ROBOT.joint_states, restamped(1.5)),
    "the joint state is not stamped": (ROBOT.joint_states, unstamped),
    "the joint state cannot be used: joint state: got 1 positions": (ROBOT.joint_states, changed(position=[0.0])),
}  # fmt: skip


def test_pictures_of_both_kinds_are_seen_and_what_is_wrong_with_them_is_told(rig: Rig):
    rig.until("")
    found = rig.sensors.observe()
    age = time.time() - found.captured
    assert 0 <= age < 0.4 and found.observation.state == pytest.approx(START)
    for image in found.observation.images.values():
        seen = np.asarray(PillowImage.fromarray(image).resize((64, 48))).astype(int)
        assert np.abs(seen[..., :2] - scene(0)[..., :2]).mean() < 4
    for said, (topic, spoil) in FAULTS.items():
        rig.drivers.spoil[topic] = spoil
        took = rig.until(said)
        assert took < 1.5, f"{said} after {took} s"
        with pytest.raises(EmuRobotError, match="camera|joint state"):
            rig.sensors.observe()
        rig.drivers.spoil.clear()
        rig.until("")


def test_two_publishers_on_one_camera_are_told(rig: Rig):
    rig.until("")
    other = rig.drivers.node.create_publisher(Image, FRONT, qos.CAMERA)
    rig.until(f"camera front has 2 publishers on {FRONT}")
    rig.drivers.node.destroy_publisher(other)
    rig.until("")


def test_after_destroy_nothing_is_heard(rig: Rig):
    rig.until("")
    assert rig.node.count_subscribers(FRONT) == rig.node.count_subscribers(ROBOT.joint_states) == 1
    rig.executor.create_task(rig.sensors.destroy)
    topics = (FRONT, WRIST, ROBOT.joint_states)
    wait_until(lambda: not any(rig.node.count_subscribers(topic) for topic in topics), "no subscription")
    rig.until("no picture of camera front came for")
    rig.sensors = Sensors(rig.node, MIXED, list(MIXED.cameras), 48, ImageFit.stretch)
    rig.until("")


assert ROBOT.gripper is not None
OWN = replace(ROBOT, gripper=replace(ROBOT.gripper, joint_states="/hand/joint_states"))


@pytest.mark.parametrize("rig", [OWN], indirect=True, ids=["own topic"])
def test_a_gripper_may_have_joint_states_of_its_own(rig: Rig):
    rig.until("")
    assert rig.sensors.observe().observation.state == pytest.approx(START)
    for said, spoil in (
        ("no joint state of the gripper came for", lambda message: None),
        ("the joint state of the gripper is stamped 1.", restamped(1.5)),
        ("the joint state of the gripper cannot be used: joint state: gripper not finite", changed(position=[np.nan])),
    ):
        rig.drivers.spoil["/hand/joint_states"] = spoil
        rig.until(said)
        rig.drivers.spoil.clear()
        rig.until("")


def test_a_clock_of_ten_steps_per_second_is_enough():
    """The simulation stamps by its own time, which is up to 0.1 s ahead of /clock."""
    rig = Rig(MIXED, parameter_overrides=[Parameter("use_sim_time", value=True)])
    try:
        began = time.monotonic()
        rig.drivers.time = lambda: 100.0 + time.monotonic() - began
        clock = rig.drivers.node.create_publisher(Clock, "/clock", 10)
        rig.drivers.node.create_timer(0.1, lambda: clock.publish(Clock(clock=stamp_of(rig.drivers.time()))))
        watch = NodeClock(rig.node)
        wait_until(lambda: watch.now().step, "steps")
        rig.until("")
        time.sleep(1.0)
        wrong = []
        for _ in range(100):
            wrong += [rig.sensors.problem()] * bool(rig.sensors.problem())
            time.sleep(0.01)
        assert len(wrong) < 10, wrong  # a busy machine is late now and then
        assert watch.now().step == pytest.approx(0.1, abs=0.03)
        rig.until("")
        assert rig.sensors.observe().captured <= watch.now().stamped
        rig.drivers.spoil[FRONT] = restamped(0.5)
        rig.until("the picture of camera front is stamped 0.")
    finally:
        rig.close()
