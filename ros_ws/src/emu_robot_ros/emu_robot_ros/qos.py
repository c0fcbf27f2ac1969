"""Quality of service of every topic, in one place."""

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy


def _profile(depth: int, reliability: ReliabilityPolicy, **more: object) -> QoSProfile:
    return QoSProfile(depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=reliability, **more)


CAMERA = _profile(1, ReliabilityPolicy.BEST_EFFORT)
JOINT_STATES_OUT = _profile(10, ReliabilityPolicy.RELIABLE)
JOINT_STATES_IN = _profile(10, ReliabilityPolicy.BEST_EFFORT)
"""Arm and gripper may send back to back on one topic: a depth of 1 would lose half of the messages."""
LATCHED = _profile(1, ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""For subgoals and the safety state: a late subscriber gets the last message."""
CHUNKS = _profile(1, ReliabilityPolicy.RELIABLE)
COMMANDS = _profile(1, ReliabilityPolicy.RELIABLE)
STATUS = _profile(1, ReliabilityPolicy.BEST_EFFORT)
DEADMAN = _profile(
    1,
    ReliabilityPolicy.RELIABLE,
    deadline=Duration(seconds=0.2),
    liveliness=LivelinessPolicy.AUTOMATIC,
    liveliness_lease_duration=Duration(seconds=0.3),
)
