"""Small recordings as the recorder makes them, without ROS: every message can be left out or made wrong."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as PillowImage

from emu_robot.data.mcap_messages import image_message, message, serialized, stamped, topic_of
from emu_robot.data.mcap_writing import McapRecording
from emu_robot.data.recording_contract import Contract, topics_of
from emu_robot.observation.camera_messages import COMPRESSED, RAW, is_compressed
from emu_robot.robots.deployment import find_deployment, parse_deployment
from emu_robot.robots.ros_names import absolute

EPOCH_NS = 1_700_000_000_000_000_000
TASK = "put the cup into the drawer"
PICTURE = (48, 64)
IMAGE_HZ, STATE_HZ, COMMAND_HZ, AHEAD = 30.0, 100.0, 50.0, 0.02
"""Cameras begin at 0.05 s, joint states at 0, commands at 0.01 s, each meant for 0.02 s later."""


class Sent(NamedTuple):
    """A message on a topic at a time [s] since the recording's first one."""

    time: float
    topic: str
    type: str
    message: Any


type Changes = Callable[[list[Sent]], list[Sent]]


def joints_at(time: float, n: int = 7) -> np.ndarray:
    """Where the arm is [rad]."""
    return 0.1 * np.arange(n) + 0.3 * np.sin(2 * time + np.arange(n))


def commanded_at(time: float, n: int = 7) -> np.ndarray:
    """Where the arm is to be."""
    return joints_at(time, n) + 0.01


def opening_at(time: float) -> float:
    """What the gripper is commanded."""
    return 1.0 if time < 1.0 else 0.25


def picture(number: int) -> np.ndarray:
    """The camera's picture of that number."""
    rows = np.linspace(0, 40, PICTURE[0])[:, None, None]
    return np.broadcast_to(rows + 3 * number % 200, (*PICTURE, 3)).astype(np.uint8)


def at_ns(time: float) -> int:
    """A time of the recording [s] since the epoch [ns]."""
    return EPOCH_NS + round(1e9 * time)


def image(time: float, number: int) -> Any:
    return image_message(picture(number), at_ns(time))


def joint_state(time: float, positions: Mapping[str, float]) -> Any:
    """positions: joint -> where it is."""
    values = {"name": list(positions), "position": np.array(list(positions.values()))}
    return message("sensor_msgs/JointState", header=stamped(at_ns(time)), **values)


def seen(topic: str, time: float, number: int) -> Sent:
    """The picture of that number on a camera's topic, of the type that its name tells."""
    if not is_compressed(topic):
        return Sent(time, topic, RAW, image(time, number))
    out = io.BytesIO()
    PillowImage.fromarray(picture(number)).save(out, "JPEG", quality=95)
    data, said = np.frombuffer(out.getvalue(), np.uint8), "rgb8; jpeg compressed bgr8"
    packed = message("sensor_msgs/CompressedImage", header=stamped(at_ns(time)), format=said, data=data)
    return Sent(time, topic, COMPRESSED, packed)


def trajectory(names: Sequence[str], positions: Sequence[float]) -> Any:
    ahead = message("builtin_interfaces/Duration", nanosec=int(1e9 * AHEAD))
    point = message("trajectory_msgs/JointTrajectoryPoint", positions=np.array(positions), time_from_start=ahead)
    return message("trajectory_msgs/JointTrajectory", joint_names=list(names), points=[point])


def subgoal(time: float, sequence: int, words: str, instruction: str = TASK) -> Sent:
    said = message("emu_robot_interfaces/Subgoal", session=5, sequence=sequence, instruction=instruction, subtask=words)
    return Sent(time, "/subgoal", "emu_robot_interfaces/msg/Subgoal", said)


def episode_state(time: float, success: bool, seed: int = 77) -> Sent:
    said = message("emu_robot_interfaces/EpisodeState", seed=seed, success=success, instruction=TASK)
    return Sent(time, "/episode_state", "emu_robot_interfaces/msg/EpisodeState", said)


def robots_part(robot: str, seconds: float) -> list[Sent]:
    """What cameras, joint states and the gate send."""
    spec = parse_deployment(find_deployment(robot).read_text(), robot)
    names, gripper, n, sent = spec.joints.names, spec.gripper, spec.n_joints, []
    for k, time in enumerate(np.arange(0.05, seconds, 1 / IMAGE_HZ).tolist()):
        sent += [seen(topic, time, k) for topic in spec.cameras.values()]
    for time in np.arange(0, seconds, 1 / STATE_HZ).tolist():
        positions = dict(zip(names, joints_at(time, n), strict=True))
        if gripper is not None and not gripper.joint_states:
            positions[gripper.joint] = gripper.position(0.5)
        sent.append(Sent(time, spec.joint_states, "sensor_msgs/msg/JointState", joint_state(time, positions)))
        if gripper is not None and gripper.joint_states:
            state = joint_state(time, {gripper.joint: gripper.position(0.5)})
            sent.append(Sent(time, gripper.joint_states, "sensor_msgs/msg/JointState", state))
    for time in np.arange(0.01, seconds, 1 / COMMAND_HZ).tolist():
        target = commanded_at(time + AHEAD, n)
        if spec.kind == "positions":
            at_once = message("std_msgs/Float64MultiArray", data=commanded_at(time, n))
            sent.append(Sent(time, spec.command_topic, "std_msgs/msg/Float64MultiArray", at_once))
        else:
            command = trajectory(names, target.tolist())
            sent.append(Sent(time, spec.command_topic, "trajectory_msgs/msg/JointTrajectory", command))
        if gripper is not None and gripper.kind == "trajectory":
            command = trajectory([gripper.joint], [gripper.position(opening_at(time + AHEAD))])
            sent.append(Sent(time, gripper.topic, "trajectory_msgs/msg/JointTrajectory", command))
    return [one._replace(topic=absolute(one.topic, "")) for one in sent]


def write_recording(
    path: Path,
    said: Sequence[Sent] = (),
    *,
    robot: str = "panda_sim",
    seconds: float = 2.0,
    task: str = TASK,
    changes: Changes = lambda sent: sent,
) -> Path:
    """A recording's folder with what the robot sends, and what `said` adds; `changes` may make any of it wrong."""
    text = find_deployment(robot).read_text()
    ours = {name: f"/{name}" for name in ("action_chunk", "subgoal", "episode_state")}
    named = {**topics_of(parse_deployment(text, robot)), **ours}
    topics = {role: absolute(name, "") for role, name in named.items()}
    contract = Contract(task=task, robot=text, topics=topics, weights="mini", software={"emu_robot": "0.1.0"})
    recording = McapRecording(path, contract, time_ns=EPOCH_NS, queue_bytes=10**9)
    sent = changes(sorted([*robots_part(robot, seconds), *said], key=lambda one: one.time))
    for topic, kind in dict.fromkeys((one.topic, one.type) for one in sent):
        recording.add(topic_of(topic, kind))
    for one in sent:
        recording.put(one.topic, at_ns(one.time), serialized(one.message, one.type))
    recording.close()
    assert not recording.problem and not recording.dropped
    return path
