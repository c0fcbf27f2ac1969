"""An arm's driver as in life: joints with lag and brakes, controllers of ros2_control's kinds, joint states.

The real thing cannot run here: no package registry has wheels of ros2_control, neither of its controllers nor of
mock_components. These are its rules, as far as who commands an arm can tell (`controllers.py` says what is left out).
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import rclpy
from arm_model import ArmModel
from controller_nodes import ControllerNode, ForwardNode, GripperNode, TrajectoryNode, clock_of
from controllers import TrajectorySettings
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_system_default
from sensor_msgs.msg import JointState

from emu_robot.core import Floats
from emu_robot.robots.deployment import Deployment
from emu_robot_ros.conversions import stamp_of

CMD_TIMEOUT_S = 0.2
"""As docs/DEPLOY.md asks for."""


@dataclass(frozen=True, kw_only=True)
class DriverSettings:
    """What may differ from arm to arm; by default as docs/DEPLOY.md asks for."""

    namespace: str = ""
    """Of relative topics; a leading slash is added."""
    rate: float = 200.0
    """Of the control loop [Hz]."""
    states_hz: float = 200.0
    """Joint states per second [Hz], at most the control loop's rate."""
    lag: float = 0.03
    """Of the joints behind their setpoints [s]."""
    gripper_states: str | None = None
    """Topic of a second broadcaster for the gripper alone, which may be the arm's; None: in the arm's messages."""
    order: tuple[str, ...] = ()
    """Of the arm controller's joints; empty: the deployment's."""
    path_tolerance: float = 0.0
    """Of the arm's trajectory controller [rad]; 0: none."""

    def trajectories(self, joints: tuple[str, ...]) -> TrajectorySettings:
        """Of a trajectory controller of these joints."""
        return TrajectorySettings(
            joints=joints,
            rate=self.rate,
            allow_nonzero_velocity_at_trajectory_end=True,
            interpolate_from_desired_state=True,
            cmd_timeout=CMD_TIMEOUT_S,
            path_tolerance=self.path_tolerance,
        )


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One turn of the control loop."""

    at: float
    """Steady time [s]."""
    setpoint: Floats
    """(A,) what the hardware is told, in units of the joint states."""
    position: Floats
    """(A,) what is measured."""


@dataclass
class Reach:
    """One controller and which joints of the arm it moves, in its own order."""

    controller: ControllerNode
    """Has these joints."""
    where: list[int] = field(default_factory=list)
    """Indices in the order of the deployment's dimensions."""


class ArmDriver:
    """Its control loop runs in one thread, its messages are taken in another, both from construction to `close`.

    start: (A,) joints [rad] and, with a gripper, its joint in its own units. arm: the joints themselves.
    silent: publish no joint states. garble: what happens to each before it is published. moments: every turn so far.
    """

    def __init__(self, robot: Deployment, start: Floats, settings: DriverSettings | None = None) -> None:
        self.robot, self.settings = robot, settings or DriverSettings()
        self.names = robot.dimension_names
        self.silent, self.garble = False, None
        self.garble: Callable[[JointState], None] | None
        self.moments: list[Moment] = []
        self.lock = threading.RLock()
        speed = [1.2 * value for value in robot.joints.velocity]
        if robot.gripper is not None:
            speed.append(1.2 * robot.gripper.speed * abs(robot.gripper.open - robot.gripper.closed))
        self.arm = ArmModel(start, speed=np.array(speed), lag=self.settings.lag)
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = Node("driver", namespace=self.settings.namespace, context=self._context, enable_rosout=False)
        self._open(start)
        self._executor = SingleThreadedExecutor(context=self._context)
        for node in (self.node, *(reach.controller.node for reach in self._reaches)):
            self._executor.add_node(node)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._executor.spin, self._control)]
        for thread in self._threads:
            thread.start()

    @property
    def refusals(self) -> Counter[str]:
        """Of all controllers, and setpoints that were not finite."""
        total = Counter({"setpoint not finite": self.arm.not_finite} if self.arm.not_finite else {})
        for reach in self._reaches:
            total += reach.controller.refusals
        return total

    @property
    def arm_controller(self) -> ControllerNode:
        return self._reaches[0].controller

    @property
    def gripper_controller(self) -> ControllerNode:
        return self._reaches[1].controller

    def since(self, at: float) -> tuple[Floats, Floats, Floats]:
        """Times (N,), setpoints (N, A), positions (N, A) from a steady time on."""
        found = [moment for moment in self.moments if moment.at >= at]
        return (
            np.array([moment.at for moment in found]),
            np.stack([moment.setpoint for moment in found]),
            np.stack([moment.position for moment in found]),
        )

    def close(self) -> None:
        self._ended.set()
        self._executor.shutdown()
        for thread in self._threads:
            thread.join(5)
        for node in (self.node, *(reach.controller.node for reach in self._reaches)):
            node.destroy_node()
        rclpy.shutdown(context=self._context)

    # -- what the graph sees

    def _open(self, start: Floats) -> None:
        robot, names = self.robot, list(self.names)
        arm = self.settings.order or robot.joints.names
        kinds = [(robot.kind, robot.command_topic, arm)]
        if robot.gripper is not None:
            kinds.append((robot.gripper.kind, robot.gripper.topic, (robot.gripper.joint,)))
        self._reaches: list[Reach] = []
        for kind, topic, joints in kinds:
            where = [names.index(name) for name in joints]
            made = self._controller(kind, self.node.resolve_topic_name(topic), joints, start[where])
            self._reaches.append(Reach(made, where))
        self._states = self._broadcasters()

    def _controller(self, kind: str, topic: str, joints: tuple[str, ...], start: Floats) -> ControllerNode:
        if kind == "gripper_command":
            return GripperNode(topic, joints[0], float(start[0]), context=self._context, lock=self.lock)
        if kind == "positions":
            return ForwardNode(topic, joints, start, context=self._context, lock=self.lock)
        settings = self.settings.trajectories(joints)
        return TrajectoryNode(topic, settings, start, context=self._context, lock=self.lock)

    def _broadcasters(self) -> list[tuple[Publisher, slice]]:
        """A publisher for every message, and which dimensions it has."""

        def publisher(topic: str) -> Publisher:
            return self.node.create_publisher(JointState, topic, qos_profile_system_default)

        if self.settings.gripper_states is None:
            return [(publisher(self.robot.joint_states), slice(None))]
        return [
            (publisher(self.robot.joint_states), slice(0, -1)),
            (publisher(self.settings.gripper_states), slice(-1, None)),
        ]

    # -- the control loop

    def _control(self) -> None:
        period, due = 1 / self.settings.rate, time.monotonic()
        last, sense_at = due - period, due
        while not self._ended.wait(max(due - time.monotonic(), 0)):
            now = time.monotonic()
            self._turn(now, now - last)
            if now >= sense_at - period / 2:
                self._sense()
                sense_at = max(sense_at + 1 / self.settings.states_hz, now)
            last, due = now, max(due + period, now)

    def _turn(self, now: float, dt: float) -> None:
        with self.lock:
            arm, setpoint = self.arm, np.zeros(len(self.names))
            for reach in self._reaches:
                there = arm.position[reach.where], arm.velocity[reach.where]
                setpoint[reach.where] = reach.controller.update(*there, clock_of(self.node))
            arm.step(setpoint, dt)
            self.moments.append(Moment(at=now, setpoint=setpoint, position=arm.position))

    def _sense(self) -> None:
        if self.silent:
            return
        stamp = stamp_of(clock_of(self.node))
        for publisher, part in self._states:
            message = JointState(name=list(self.names[part]))
            message.position, message.velocity = self.arm.position[part].tolist(), self.arm.velocity[part].tolist()
            message.header.stamp = stamp
            if self.garble:
                self.garble(message)
            publisher.publish(message)
