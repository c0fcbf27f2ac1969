"""A robot's cameras and joint states, as they arrive at a node, kept as observations."""

import threading
from collections.abc import Callable, Sequence

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from emu_robot.deployment import Deployment
from emu_robot.errors import EmuRobotError, UnknownNameError
from emu_robot.image_fit import ImageFit
from emu_robot.joint_states import JointReader
from emu_robot.observing import ObservationBuffer, TimedObservation
from emu_robot_ros import qos
from emu_robot_ros.conversions import seconds, to_image


class Sensors:
    """Subscribes a node to what its policy sees; `observe` may be called from any thread.

    cameras: names of the deployment's, the planner's first. on_images: called whenever every one has shown something
    new since the last call, so that pictures taken together are used together.
    """

    def __init__(
        self,
        node: Node,
        robot: Deployment,
        cameras: Sequence[str],
        size: int,
        fit: ImageFit,
        on_images: Callable[[], None] = lambda: None,
    ) -> None:
        self._node, self._joints, self._on_images = node, JointReader(robot), on_images
        self._cameras, self._shown = set(cameras), set[str]()
        self._buffer, self._lock = ObservationBuffer(cameras, size, fit), threading.Lock()
        for camera in cameras:
            if camera not in robot.cameras:
                raise UnknownNameError(f"camera of {robot.name}", camera, robot.cameras)
        take = node.create_subscription
        self._inputs = [take(JointState, robot.joint_states, self._on_joint_state, qos.JOINT_STATES_IN)]
        for camera in cameras:
            self._inputs.append(take(Image, robot.cameras[camera], self._receiver(camera), qos.CAMERA))

    def destroy(self) -> None:
        """Listen no more."""
        for subscription in self._inputs:
            self._node.destroy_subscription(subscription)

    def observe(self) -> TimedObservation:
        """The last observation; its time is of the node's clock. Raises `NotReadyError`."""
        with self._lock:
            return self._buffer.observe(1e-9 * self._node.get_clock().now().nanoseconds)

    def _on_joint_state(self, message: JointState) -> None:
        try:
            state = self._joints.read(list(message.name), list(message.position))
        except EmuRobotError as error:
            self._node.get_logger().warning(str(error), throttle_duration_sec=5.0)
            return
        if state is not None:
            with self._lock:
                self._buffer.on_state(state.astype(np.float32), seconds(message.header.stamp))

    def _receiver(self, camera: str) -> Callable[[Image], None]:
        def receive(message: Image) -> None:
            try:
                image = to_image(message)
                with self._lock:
                    self._buffer.on_image(camera, image, seconds(message.header.stamp))
            except EmuRobotError as error:
                self._node.get_logger().warning(f"camera {camera}: {error}", throttle_duration_sec=5.0)
            self._shown.add(camera)
            if self._shown == self._cameras:
                self._shown.clear()
                self._on_images()

        return receive
