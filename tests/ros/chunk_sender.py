"""A policy as a process that a test may stop or kill: heartbeats and chunks from one loop, 30 times a second."""

import time

import numpy as np
import rclpy
from emu_robot_interfaces.msg import ActionChunk, PolicyStatus

from emu_robot.robots.deployment import read_deployment
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import from_actions

START = (0.0, -0.55, 0.0, -2.65, 0.0, 2.10, 0.785, 1.0)
"""Where the arm of the tests stands [rad]; the gripper is open."""
SPEED, PERIOD_S, DT, N_ACTIONS = 0.1, 0.03, 0.05, 40
"""Of the first joint [rad/s]; chunks reach 2 s ahead, so that nothing but silence ends them."""


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("sender")
    chunks = node.create_publisher(ActionChunk, topics.ACTION_CHUNK, qos.CHUNKS)
    statuses = node.create_publisher(PolicyStatus, topics.POLICY_STATUS, qos.STATUS)
    while chunks.get_subscription_count() == 0:  # else the arm would be far behind by then
        time.sleep(PERIOD_S)
    names, session, sequence, start = list(read_deployment("panda_sim").dimension_names), time.time_ns(), 0, time.time()
    while rclpy.ok():
        actions = np.tile(START, (N_ACTIONS, 1))
        actions[:, 0] += SPEED * (time.time() - start + DT * np.arange(N_ACTIONS))
        sequence += 1
        message = ActionChunk(
            session=session, sequence=sequence, source="policy", dt=DT, names=names, actions=from_actions(actions)
        )
        message.header.stamp = node.get_clock().now().to_msg()
        chunks.publish(message)
        statuses.publish(PolicyStatus(session=session, instruction="turn"))
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    main()
