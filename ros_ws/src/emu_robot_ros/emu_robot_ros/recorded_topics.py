"""The topics of a recording, and the quality of service of their subscriptions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from emu_robot_interfaces.msg import ActionChunk, EpisodeState, PlannerStatus, PolicyStatus, SafetyState, Subgoal
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Bool, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from emu_robot.data.recording_contract import topics_of
from emu_robot.observation.camera_messages import is_compressed
from emu_robot.robots.deployment import Deployment
from emu_robot_ros import qos, topics

COMMANDS = {"trajectory": JointTrajectory, "positions": Float64MultiArray}
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
PICTURES = (Image, CompressedImage)
IMAGE_DEPTH, DEPTH = 10, 100
"""Queue lengths of subscriptions, for messages that come while the process is busy."""


class Source(NamedTuple):
    """A topic to record."""

    role: str
    """Role in the recording, see `Contract.topics`."""
    name: str
    """Name of the topic."""
    kind: Any
    """Message class."""
    profile: QoSProfile
    """Quality of service that its publishers should offer."""


def graph(robot: Deployment) -> list[Source]:
    """All topics of the robot's drivers and of our nodes."""
    drivers: dict[str, tuple[Any, QoSProfile]] = {
        "joint_states": (JointState, qos.JOINT_STATES_IN),
        "gripper_joint_states": (JointState, qos.JOINT_STATES_IN),
        "arm_command": (COMMANDS[robot.kind], qos.COMMANDS),
    }
    if robot.gripper is not None and robot.gripper.kind in COMMANDS:
        drivers["gripper_command"] = (COMMANDS[robot.gripper.kind], qos.COMMANDS)
    ours = {
        topics.ACTION_CHUNK: (ActionChunk, qos.CHUNKS),
        topics.POLICY_STATUS: (PolicyStatus, qos.STATUS),
        topics.PLANNER_STATUS: (PlannerStatus, qos.STATUS),
        topics.SUBGOAL: (Subgoal, qos.LATCHED),
        topics.SUBGOAL_IMAGE: (Image, qos.LATCHED),
        topics.SAFETY_STATE: (SafetyState, qos.LATCHED),
        topics.EPISODE_STATE: (EpisodeState, qos.STATUS),
        topics.DEADMAN: (Bool, qos.DEADMAN),
        topics.DIAGNOSTICS: (DiagnosticArray, RELIABLE),
    }
    found = [Source(role, name, *drivers.get(role, _camera(name))) for role, name in topics_of(robot).items()]
    return found + [Source(name.strip("/"), name, *what) for name, what in ours.items()]


def listening(kind: Any, offers: Sequence[QoSProfile]) -> QoSProfile:
    """The best quality of service that all offers allow, with a long queue.

    Pictures of cameras are never requested reliably: sending them again would disturb the nodes that drive.
    """
    is_kept = all(o.durability == DurabilityPolicy.TRANSIENT_LOCAL for o in offers)
    may_wait = kind not in PICTURES or is_kept
    is_reliable = may_wait and all(o.reliability == ReliabilityPolicy.RELIABLE for o in offers)
    is_latched = is_reliable and is_kept
    return QoSProfile(
        depth=IMAGE_DEPTH if kind in PICTURES else DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if is_reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if is_latched else DurabilityPolicy.VOLATILE,
    )


def _camera(topic: str) -> tuple[Any, QoSProfile]:
    """Message class and quality of service of a camera. Compressed pictures are recorded as they are."""
    return (CompressedImage if is_compressed(topic) else Image, qos.CAMERA)
