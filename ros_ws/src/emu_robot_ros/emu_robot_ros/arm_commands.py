"""How an arm's positions go out: as trajectories of one point, or as bare numbers in the order of the controller."""

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
    """One arm's commands, and who else could command it. Waits for nothing."""

    def __init__(self, node: Node, robot: Deployment, *, period: float) -> None:
        """period: of the control ticks [s].

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
        """Where the joints shall be at the next tick and how fast, (J,) [rad], [rad/s], in the order of `robot.joints`.

        Sends nothing while `not_ready` says that the controller's joints are unknown or others.
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
        """Ask the controller again what has to be asked; to be called about once a second."""
        if self._order is not None:
            self._order.ask()

    def rivals(self) -> str:
        """Who else could command this arm, in words; empty if there is no one."""
        return rivals(self._node, self._robot.command_topic)

    def not_ready(self) -> str:
        """Why the arm cannot be commanded yet, in one line; empty if it can."""
        return self._order.problem() if self._order is not None else ""

    def changed(self) -> str:
        """What the controller takes otherwise than before, since this was last asked, in one line; empty if nothing.

        Numbers sent shortly before may have gone to the wrong joints. To be asked about once a second, armed or not.
        """
        return self._order.changed() if self._order is not None else ""

    def destroy(self) -> None:
        """Send no more."""
        self._node.destroy_publisher(self._publisher)
        if self._order is not None:
            self._order.destroy()
