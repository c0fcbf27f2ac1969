"""How a gripper's positions go out: as trajectories, as bare numbers, or as goals of the action GripperCommand."""

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
"""Of its stroke that a gripper's wanted position must change by before a goal is worth sending while it still moves."""
GOAL_PERIOD_S = 0.1
"""Least time between goals: an action's server takes each one up anew, which no gripper does at the control rate."""


class GripperCommands(Protocol):
    """One gripper's commands, whatever its driver listens to."""

    def send(self, position: float, now: float) -> None:
        """Where the gripper's joint shall be, in units of its joint states; at every control tick, now [s] steady."""
        ...

    def rivals(self) -> str:
        """Who else could command this gripper, in words; empty if there is no one."""
        ...

    def destroy(self) -> None:
        """Send no more."""
        ...


def gripper_commands(node: Node, gripper: Gripper | None, *, period: float, effort: float) -> GripperCommands:
    """gripper: None for a robot that has none. period: of the control ticks [s]. effort: limit of a gripper commanded
    by action [N], 0: its driver's own.

    Raises `SystemSetupError` if the gripper's interface is not installed.
    """
    if gripper is None:
        return NoGripper()
    if gripper.kind == "gripper_command":
        return GoalCommands(node, gripper, effort)
    return TopicCommands(node, gripper, period)


class NoGripper:
    """Of a robot without one: there is nothing to command."""

    def send(self, position: float, now: float) -> None:
        """Nothing goes anywhere."""

    def rivals(self) -> str:
        return ""

    def destroy(self) -> None:
        """Nothing has been opened."""


class TopicCommands:
    """A message at every tick: JointTrajectory of one point, or Float64MultiArray."""

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
    """Which positions of a stream are worth a goal: those that changed enough, and the one where the stream rests.

    The first position is where the gripper is already; it is none.
    """

    def __init__(self, *, least_change: float, period: float) -> None:
        self._least_change, self._period = least_change, period
        self._goal: float | None = None
        self._seen, self._sent_at = np.nan, -np.inf

    def is_due(self, position: float, now: float) -> bool:
        """Whether `position`, wanted at `now` [s], should be sent; ask for every position of the stream."""
        rests, self._seen = position == self._seen, position
        if self._goal is None:
            self._goal = position
        if now - self._sent_at < self._period:
            return False
        # Not "nan > x": after `refused` there is no goal that anything could be near to.
        return not abs(position - self._goal) <= (0.0 if rests else self._least_change)

    def sent(self, position: float, now: float) -> None:
        self._goal, self._sent_at = position, now

    def refused(self) -> None:
        """What was sent last was not taken; it is due again."""
        self._goal = np.nan


class GoalCommands:
    """Goals of control_msgs/action/GripperCommand, few enough for a gripper to follow."""

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
            self._warn("nobody serves it: is the gripper's driver running?")
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
