"""Serves both actions of control_msgs and answers with what it was sent, as a process of its own."""

import rclpy
from control_msgs.action import FollowJointTrajectory, GripperCommand
from rclpy.action import ActionServer
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node


def grip(handle: ServerGoalHandle) -> GripperCommand.Result:
    """Is at once where it shall be."""
    command = handle.request.command
    handle.publish_feedback(GripperCommand.Feedback(position=command.position, effort=command.max_effort))
    handle.succeed()
    return GripperCommand.Result(position=command.position, effort=command.max_effort, stalled=True, reached_goal=True)


def follow(handle: ServerGoalHandle) -> FollowJointTrajectory.Result:
    """Says of every joint the first point and, as the error's words, its tolerance on the way and at the end."""
    goal = handle.request
    for point in goal.trajectory.points:
        handle.publish_feedback(FollowJointTrajectory.Feedback(joint_names=goal.trajectory.joint_names, actual=point))
    handle.abort()
    said = [f"{one.name} {one.position}" for one in goal.path_tolerance]
    said += [f"{one.joint_name} {one.component} {one.velocity}" for one in goal.component_goal_tolerance]
    said.append(f"{goal.goal_time_tolerance.sec}.{goal.goal_time_tolerance.nanosec}")
    code = FollowJointTrajectory.Result.GOAL_TOLERANCE_VIOLATED
    return FollowJointTrajectory.Result(error_code=code, error_string=", ".join(said))


def main() -> None:
    rclpy.init()
    node = Node("controllers")
    ActionServer(node, GripperCommand, "gripper_controller/gripper_cmd", grip)
    ActionServer(node, FollowJointTrajectory, "arm_controller/follow_joint_trajectory", follow)
    print("up", flush=True)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
