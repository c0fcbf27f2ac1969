"""The fake controllers as nodes of their own, with the names, topics, actions and parameters of the real ones."""

from collections import Counter
from threading import RLock
from typing import Any, Protocol

import numpy as np
from control_msgs.action import FollowJointTrajectory, GripperCommand
from controllers import (
    Code,
    ForwardController,
    Goal,
    GripperController,
    JointTrajectoryController,
    Status,
    TrajectorySettings,
)
from joint_trajectory import Point, State, Trajectory
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import qos_profile_system_default
from rclpy.task import Future
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from emu_robot.core import Floats
from emu_robot_ros.conversions import seconds


class ControllerNode(Protocol):
    """One controller of some joints. refusals: of what came in."""

    node: Node
    joints: tuple[str, ...]

    @property
    def controller(self) -> JointTrajectoryController | ForwardController | GripperController: ...

    @property
    def refusals(self) -> Counter[str]: ...

    def update(self, position: Floats, velocity: Floats, now: float) -> Floats:
        """Setpoint (J,) from what is measured (J,) at a time of the node's clock [s]."""
        ...


def controller_node(name: str, context: Context) -> Node:
    """The node of a topic or action's full name: /space/controller/topic belongs to `controller` in /space."""
    parent, _, controller = name.rpartition("/")[0].rpartition("/")
    return Node(controller, namespace=parent or "/", context=context, enable_rosout=False)


def clock_of(node: Node) -> float:
    return 1e-9 * node.get_clock().now().nanoseconds


def to_trajectory(message: JointTrajectory) -> Trajectory:
    points = tuple(
        Point(
            time=seconds(point.time_from_start),
            state=State(
                positions=np.array(point.positions),
                velocities=np.array(point.velocities),
                accelerations=np.array(point.accelerations),
            ),
            has_effort=bool(point.effort),
        )
        for point in message.points
    )
    return Trajectory(names=tuple(message.joint_names), points=points, start=seconds(message.header.stamp))


class RunningGoals:
    """Between an action server's handles and a controller's goals, which end in the control loop's thread."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._goals: dict[bytes, Goal] = {}

    def begin(self, handle: Any, goal: Goal) -> Future:
        """What is done when the goal is not active any more."""
        ended = Future(executor=self._node.executor)
        ended.add_done_callback(lambda _: None)  # its executor wakes for callbacks alone
        goal.on_end = lambda: ended.set_result(None)
        self._goals[bytes(handle.goal_id.uuid)] = goal
        return ended

    def of(self, handle: Any) -> Goal:
        return self._goals[bytes(handle.goal_id.uuid)]

    def tell(self, handle: Any) -> Goal:
        """The client how its goal ended."""
        goal = self.of(handle)
        if goal.status is Status.SUCCEEDED:
            handle.succeed()
        elif goal.status is Status.CANCELED and handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return goal


class TrajectoryNode:
    """joint_trajectory_controller: topic `~/joint_trajectory`, action `~/follow_joint_trajectory`."""

    def __init__(
        self, topic: str, settings: TrajectorySettings, position: Floats, *, context: Context, lock: RLock
    ) -> None:
        self.controller, self.joints, self._lock = JointTrajectoryController(settings, position), settings.joints, lock
        self.node = controller_node(topic, context)
        for name in ("allow_nonzero_velocity_at_trajectory_end", "interpolate_from_desired_state", "cmd_timeout"):
            self.node.declare_parameter(name, getattr(settings, name))
        self.node.declare_parameter("joints", list(settings.joints))
        self.node.declare_parameter("constraints.goal_time", settings.goal_time)
        self.node.create_subscription(JointTrajectory, topic, self._on_command, qos_profile_system_default)
        self._goals = RunningGoals(self.node)
        self._action = ActionServer(
            self.node,
            FollowJointTrajectory,
            f"{topic.rpartition('/')[0]}/follow_joint_trajectory",
            self._execute,
            goal_callback=self._on_goal,
            cancel_callback=self._on_cancel,
        )

    @property
    def refusals(self) -> Counter[str]:
        return self.controller.refusals

    def update(self, position: Floats, velocity: Floats, now: float) -> Floats:
        return self.controller.update(position, velocity, now)

    def _on_command(self, message: JointTrajectory) -> None:
        with self._lock:
            why = self.controller.command(to_trajectory(message), clock_of(self.node))
        if why is not None:
            self.node.get_logger().error(f"refused: {why.value}", throttle_duration_sec=1.0)

    def _on_goal(self, goal: Any) -> GoalResponse:
        with self._lock:
            why = self.controller.judge(to_trajectory(goal.trajectory), clock_of(self.node))
        return GoalResponse.ACCEPT if why is None else GoalResponse.REJECT

    def _on_cancel(self, handle: Any) -> CancelResponse:
        with self._lock:
            self.controller.cancel(self._goals.of(handle))
        return CancelResponse.ACCEPT

    async def _execute(self, handle: Any) -> FollowJointTrajectory.Result:
        wanted = handle.request
        tolerances = self.controller.settings.tolerances.with_goal(
            self.joints,
            {tolerance.name: tolerance.position for tolerance in wanted.path_tolerance},
            {tolerance.name: tolerance.position for tolerance in wanted.goal_tolerance},
            seconds(wanted.goal_time_tolerance),
        )
        with self._lock:
            goal = self.controller.accept(to_trajectory(wanted.trajectory), clock_of(self.node), tolerances)
            if not isinstance(goal, Goal):
                handle.abort()
                return FollowJointTrajectory.Result(error_code=Code.INVALID_GOAL, error_string=goal.value)
            ended = self._goals.begin(handle, goal)
        await ended
        return FollowJointTrajectory.Result(error_code=int(self._goals.tell(handle).code))


class ForwardNode:
    """forward_command_controller: topic `~/commands`, and the parameter `joints` that says their order."""

    def __init__(self, topic: str, joints: tuple[str, ...], position: Floats, *, context: Context, lock: RLock) -> None:
        self.controller, self.joints, self._lock = ForwardController(joints, position), joints, lock
        self.node = controller_node(topic, context)
        self.node.declare_parameter("joints", list(joints))
        self.node.declare_parameter("interface_name", "position")
        self.node.create_subscription(Float64MultiArray, topic, self._on_command, qos_profile_system_default)

    @property
    def refusals(self) -> Counter[str]:
        return self.controller.refusals

    def update(self, position: Floats, velocity: Floats, now: float) -> Floats:
        return self.controller.update()

    def _on_command(self, message: Float64MultiArray) -> None:
        with self._lock:
            self.controller.command(np.array(message.data))


class GripperNode:
    """A gripper's action control_msgs/GripperCommand, under the action's full name."""

    def __init__(self, action: str, joint: str, position: float, *, context: Context, lock: RLock) -> None:
        self.controller, self.joints, self._lock = GripperController(position), (joint,), lock
        self.refusals = Counter[str]()
        self.node = controller_node(action, context)
        self._goals = RunningGoals(self.node)
        self._action = ActionServer(self.node, GripperCommand, action, self._execute, cancel_callback=self._on_cancel)

    def update(self, position: Floats, velocity: Floats, now: float) -> Floats:
        return np.array([self.controller.update(float(position[0]), float(velocity[0]), now)])

    def _on_cancel(self, handle: Any) -> CancelResponse:
        with self._lock:
            self.controller.cancel(self._goals.of(handle))
        return CancelResponse.ACCEPT

    async def _execute(self, handle: Any) -> GripperCommand.Result:
        with self._lock:
            goal = self.controller.accept(handle.request.command.position, clock_of(self.node))
            ended = self._goals.begin(handle, goal)
        await ended
        self._goals.tell(handle)
        reached = goal.status is Status.SUCCEEDED
        return GripperCommand.Result(position=self.controller.measured, reached_goal=reached, stalled=goal.stalled)
