"""Subscribes a node to a robot's cameras and joint states, and makes observations of them."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState

from emu_robot.errors import EmuRobotError, UnknownNameError
from emu_robot.observation.buffer import NotReadyError, ObservationBuffer, TimedObservation
from emu_robot.observation.camera_messages import is_compressed
from emu_robot.observation.config import ObservationConfig
from emu_robot.observation.freshness import Freshness
from emu_robot.observation.image_fit import ImageFit
from emu_robot.observation.joint_states import JointReader
from emu_robot.robots.deployment import Deployment
from emu_robot_ros import qos
from emu_robot_ros.conversions import seconds, to_image
from emu_robot_ros.node_clock import NodeClock

COUNT_S = 1.0
"""Time between two counts of each camera's publishers [s]."""


class Sensors:
    """Subscriptions to the sensors of a policy, until `destroy`. `observe` may be called from any thread."""

    def __init__(
        self,
        node: Node,
        robot: Deployment,
        cameras: Sequence[str],
        size: int,
        fit: ImageFit,
        on_images: Callable[[], None] = lambda: None,
    ) -> None:
        """cameras: names in the deployment, the planner's first. size: height and width of the images [px].

        on_images: called when every camera has sent a picture since the last call, so that pictures taken together are
        used together. Raises `UnknownNameError` for a camera that the robot does not have.
        """
        for camera in cameras:
            if camera not in robot.cameras:
                raise UnknownNameError(f"camera of {robot.name}", camera, robot.cameras)
        self._node, self._robot, self._joints, self._on_images = node, robot, JointReader(robot), on_images
        self._clock, self._lock, config = NodeClock(node), threading.Lock(), ObservationConfig()
        self._buffer = ObservationBuffer(cameras, size, fit, config)
        self._shown, self._crowded, self._counted_at = set[str](), "", float("-inf")
        self._views = {camera: self._look(camera, robot.cameras[camera]) for camera in cameras}
        self._states = [self._feel(robot.joint_states, self._on_joint_state)]
        gripper, self._gripper = robot.gripper, None
        if gripper is not None and gripper.joint_states:
            self._gripper = Freshness("joint state of the gripper", config)
            self._states.append(self._feel(gripper.joint_states, self._on_gripper_state))

    def observe(self) -> TimedObservation:
        """The last observation, with its time on the node's clock. Raises `NotReadyError`."""
        with self._lock:
            problem = self._problem()
            if problem:
                raise NotReadyError(problem)
            return self._buffer.observe(self._clock.now())

    def problem(self) -> str:
        """Why there is no observation to act on, in words; empty if there is one. May be called from any thread."""
        with self._lock:
            return self._problem()

    def destroy(self) -> None:
        """End all subscriptions."""
        for subscription in (*self._views.values(), *self._states):
            self._node.destroy_subscription(subscription)
        self._clock.destroy()

    def _problem(self) -> str:
        now = self._clock.now()
        return self._crowded or self._buffer.problem(now) or (self._gripper.problem(now) if self._gripper else "")

    # -- messages

    def _look(self, camera: str, topic: str) -> Any:
        kind = CompressedImage if is_compressed(topic) else Image
        return self._node.create_subscription(kind, topic, self._receiver(camera), qos.CAMERA)

    def _feel(self, topic: str, callback: Callable[[JointState], None]) -> Any:
        return self._node.create_subscription(JointState, topic, callback, qos.JOINT_STATES_IN)

    def _on_joint_state(self, message: JointState) -> None:
        try:
            state = self._joints.read(list(message.name), list(message.position))
        except EmuRobotError as error:
            self._warn(str(error))
            with self._lock:
                self._buffer.refuse_state(f"cannot be used: {error}", self._clock.now())
            return
        if state is not None:
            with self._lock:
                self._buffer.on_state(state.astype(np.float32), seconds(message.header.stamp), self._clock.now())

    def _on_gripper_state(self, message: JointState) -> None:
        """Read the gripper's opening; the arm's next joint state includes it."""
        assert self._gripper is not None and self._robot.gripper is not None
        if self._robot.gripper.joint not in message.name:
            return
        with self._lock:
            now, stamp = self._clock.now(), seconds(message.header.stamp)
            objection = self._gripper.objection(stamp, now)
            if not objection:
                try:
                    self._joints.read(list(message.name), list(message.position))
                except EmuRobotError as error:
                    objection = f"cannot be used: {error}"
            if objection:
                self._gripper.refuse(objection, now)
            else:
                self._gripper.take(stamp, now)

    def _receiver(self, camera: str) -> Callable[[Image | CompressedImage], None]:
        def receive(message: Image | CompressedImage) -> None:
            self._take(camera, message)
            self._shown.add(camera)
            if len(self._shown) == len(self._views):
                self._shown.clear()
                self._on_images()

        return receive

    def _take(self, camera: str, message: Image | CompressedImage) -> None:
        now = self._clock.now()
        try:
            image = to_image(message)
            with self._lock:
                self._buffer.on_image(camera, image, seconds(message.header.stamp), now)
        except EmuRobotError as error:
            self._warn(f"camera {camera}: {error}")
            with self._lock:
                self._buffer.refuse_image(camera, f"cannot be used: {error}", now)
        if now.steady - self._counted_at > COUNT_S:
            self._counted_at = now.steady
            self._crowded = self._count()

    def _count(self) -> str:
        """The camera whose topic has several publishers, in words: pictures of two places must not be mixed."""
        for camera, subscription in self._views.items():
            publishers = self._node.count_publishers(subscription.topic_name)
            if publishers > 1:
                return f"camera {camera} has {publishers} publishers on {subscription.topic_name}"
        return ""

    def _warn(self, words: str) -> None:
        self._node.get_logger().warning(words, throttle_duration_sec=5.0)
