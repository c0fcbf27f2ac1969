"""Sends a gripper's positions, as trajectories, as bare numbers, or as goals of the action GripperCommand."""

import importlib
from typing import Any, Protocol

import numpy as np
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from emu_robot.errors import SystemSetupError
from emu_robot.robots.deployment import Gripper
from emu_robot_ros import qos
from emu_robot_ros.conversions import trajectory
from emu_robot_ros.rivals import rivals

LEAST_CHANGE = 0.02
"""Least change of a moving position that is worth a goal, as a share of the gripper's stroke."""
GOAL_PERIOD_S = 0.1
"""Least time between goals [s]: a server restarts its motion with every goal, so the control rate is too fast."""


class GripperCommands(Protocol):
    """Commands of one gripper, for any kind of driver."""

    def send(self, position: float, now: float) -> None:
        """Send a joint position, in units of its joint states. Call it at every control tick. now: steady clock [s]."""
        ...

    def rivals(self) -> str:
        """Other nodes that could command this gripper, in words; empty if there are none."""
        ...

    def destroy(self) -> None:
        """Remove publisher or client."""
        ...


def gripper_commands(node: Node, gripper: Gripper | None, *, period: float, effort: float) -> GripperCommands:
    """The commands of a robot's gripper, or of a robot without one (None).

    period: time between control ticks [s]. effort: limit for a gripper that takes goals [N], 0 for its driver's own.
    Raises `SystemSetupError` if the gripper's interface is not installed.
    """
    if gripper is None:
        return NoGripper()
    if gripper.kind == "gripper_command":
        return GoalCommands(node, gripper, effort)
    return TopicCommands(node, gripper, period)


class NoGripper:
    """Commands of a robot without a gripper: they do nothing."""

    def send(self, position: float, now: float) -> None:
        """Do nothing."""

    def rivals(self) -> str:
        return ""

    def destroy(self) -> None:
        """Do nothing."""


class TopicCommands:
    """Sends a message at every tick: JointTrajectory with one point, or Float64MultiArray."""

    def __init__(self, node: Node, gripper: Gripper, period: float) -> None:
        self._node, self._gripper, self._period = node, gripper, period
        kind = JointTrajectory if gripper.kind == "trajectory" else Float64MultiArray
        self._publisher = node.create_publisher(kind, gripper.topic, qos.COMMANDS)

    def send(self, position: float, now: float) -> None:
        if self._gripper.kind == "trajectory":
            names, at = (self._gripper.joint,), np.array([position])
            self._publisher.publish(trajectory(names, at, np.zeros(1), self._period))
        else:
            self._publisher.publish(Float64MultiArray(data=[position]))

    def rivals(self) -> str:
        return rivals(self._node, self._gripper.topic)

    def destroy(self) -> None:
        self._node.destroy_publisher(self._publisher)


class GoalThrottle:
    """Chooses positions of a stream that are worth a goal: those that changed enough, and the resting position.

    The first position is where the gripper already is; it is not worth a goal.
    """

    def __init__(self, *, least_change: float, period: float) -> None:
        self._least_change, self._period = least_change, period
        self._goal: float | None = None
        self._seen, self._sent_at = np.nan, -np.inf

    def is_due(self, position: float, now: float) -> bool:
        """Whether `position`, wanted at `now` [s], should be sent. Call it for every position of the stream."""
        rests, self._seen = position == self._seen, position
        if self._goal is None:
            self._goal = position
        if now - self._sent_at < self._period:
            return False
        # Not "abs(…) > x": after `refused` the goal is nan, and every position is due.
        return not abs(position - self._goal) <= (0.0 if rests else self._least_change)

    def sent(self, position: float, now: float) -> None:
        self._goal, self._sent_at = position, now

    def refused(self) -> None:
        """The last goal was refused; it is due again."""
        self._goal = np.nan


class GoalCommands:
    """Sends goals of control_msgs/action/GripperCommand, few enough for a gripper to follow."""

    def __init__(self, node: Node, gripper: Gripper, effort: float) -> None:
        self._node, self._gripper, self._effort = node, gripper, effort
        self._action = _gripper_command_action()
        self._client = ActionClient(node, self._action, gripper.topic)
        self._throttle = GoalThrottle(
            least_change=LEAST_CHANGE * abs(gripper.open - gripper.closed), period=GOAL_PERIOD_S
        )

    def send(self, position: float, now: float) -> None:
        if not self._throttle.is_due(position, now):
            return
        if not self._client.server_is_ready():
            self._warn("no node serves it: is the gripper's driver running?")
            return
        goal = self._action.Goal()
        goal.command.position, goal.command.max_effort = position, self._effort
        self._throttle.sent(position, now)
        self._client.send_goal_async(goal).add_done_callback(self._on_answer)

    def rivals(self) -> str:
        return rivals(self._node, self._gripper.topic)

    def destroy(self) -> None:
        self._client.destroy()

    def _on_answer(self, future: Future) -> None:
        handle: Any = future.result()
        if not handle.accepted:
            self._throttle.refused()
            self._warn("the gripper's driver refused a goal")

    def _warn(self, what: str) -> None:
        self._node.get_logger().warning(f"{self._gripper.topic}: {what}", throttle_duration_sec=1.0)


def _gripper_command_action() -> Any:
    try:
        return importlib.import_module("control_msgs.action").GripperCommand
    except ModuleNotFoundError as error:
        raise SystemSetupError(
            "this gripper takes goals of control_msgs/action/GripperCommand, and control_msgs is not installed; "
            "get it: apt install ros-jazzy-control-msgs, or without a ROS installation: make ros"
        ) from error
