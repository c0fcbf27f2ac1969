"""Sends an arm's positions, as trajectories of one point or as bare numbers in the controller's order."""

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from emu_robot.core import Floats
from emu_robot.errors import ConfigError
from emu_robot.robots.deployment import Deployment
from emu_robot_ros import qos
from emu_robot_ros.conversions import trajectory
from emu_robot_ros.joint_order import JointOrder
from emu_robot_ros.rivals import rivals


class ArmCommands:
    """Commands of one arm, and a watch for other senders. It never blocks."""

    def __init__(self, node: Node, robot: Deployment, *, period: float) -> None:
        """period: time between control ticks [s].

        Raises `ConfigError` if the robot's `command_joints` are not its joints.
        """
        self._node, self._robot, self._period = node, robot, period
        names = robot.joints.names
        if robot.command_joints and sorted(robot.command_joints) != sorted(names):
            given = ", ".join(robot.command_joints)
            raise ConfigError(f"{robot.name}: command_joints are {given}, must be the joints {', '.join(names)}")
        kind = JointTrajectory if robot.kind == "trajectory" else Float64MultiArray
        self._publisher = node.create_publisher(kind, robot.command_topic, qos.COMMANDS)
        self._order: JointOrder | None = None
        self._indices = np.array([names.index(name) for name in robot.command_joints or names], np.intp)
        if robot.kind == "positions" and not robot.command_joints:
            controller = node.resolve_topic_name(robot.command_topic).rpartition("/")[0]
            self._order = JointOrder(node, controller, names)

    def send(self, position: Floats, velocity: Floats) -> None:
        """Send position (J,) [rad] and velocity (J,) [rad/s] for the next tick, in the order of `robot.joints`.

        Sends nothing while `not_ready` gives a reason.
        """
        if self._robot.kind == "trajectory":
            self._publisher.publish(trajectory(self._robot.joints.names, position, velocity, self._period))
            return
        indices = self._indices if self._order is None else self._order.indices
        if indices is None:
            self._node.get_logger().error(f"not commanded: {self.not_ready()}", throttle_duration_sec=1.0)
            return
        self._publisher.publish(Float64MultiArray(data=position[indices].tolist()))

    def ask(self) -> None:
        """Ask the controller for its order of joints, if needed. Call it about once a second."""
        if self._order is not None:
            self._order.ask()

    def rivals(self) -> str:
        """Other nodes that could command this arm, in words; empty if there are none."""
        return rivals(self._node, self._robot.command_topic)

    def not_ready(self) -> str:
        """Why the arm cannot be commanded yet, in one line; empty if it can."""
        return self._order.problem() if self._order is not None else ""

    def changed(self) -> str:
        """How the controller's order of joints changed since the last call, in one line; empty if it did not.

        Numbers sent shortly before may have gone to the wrong joints. Call it about once a second, armed or not.
        """
        return self._order.changed() if self._order is not None else ""

    def destroy(self) -> None:
        """Remove publisher and client."""
        self._node.destroy_publisher(self._publisher)
        if self._order is not None:
            self._order.destroy()
