"""Records simulated episodes as the ROS 2 recorder does: one MCAP file each, with the graph's topics and messages.

Foxglove, rerun, `rosbags` and `emu-robot data from-mcap` read them. Needs no ROS.
"""

import re
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from emu_robot.control.episode_loop import EpisodeResult, Subscriber
from emu_robot.core import ActionChunk, Floats32, Image, Observation, PolicyEvent, Transition
from emu_robot.data.mcap_messages import image_message, message, serialized, stamped, topic_of, types
from emu_robot.data.mcap_writing import McapRecording
from emu_robot.data.recording_contract import Contract, topics_of, weights_sha256
from emu_robot.errors import ConfigError, SystemSetupError
from emu_robot.robots.deployment import Deployment
from emu_robot.robots.ros_names import absolute
from emu_robot.shared.provenance import commit, version
from emu_robot.watch.simulation import TimedPolicy
from emu_robot.watch.watched_world import WatchedWorld

INTERFACES = "emu_robot_interfaces/msg"
OURS = {
    "action_chunk": f"{INTERFACES}/ActionChunk",
    "policy_status": f"{INTERFACES}/PolicyStatus",
    "subgoal": f"{INTERFACES}/Subgoal",
    "subgoal_image": "sensor_msgs/msg/Image",
    "safety_state": f"{INTERFACES}/SafetyState",
    "episode_state": f"{INTERFACES}/EpisodeState",
}
"""Roles and names of our topics, with their types."""
LATCHED = ("subgoal", "subgoal_image", "safety_state")
QUEUE_BYTES = 256_000_000


class EpisodeRecording(Subscriber):
    """Writes an episode into a folder of its own. Let it subscribe after its world.

    path: the folder; None before the episode.
    """

    def __init__(
        self, folder: Path, robot_yaml: str, robot: Deployment, world: WatchedWorld, policy: TimedPolicy, weights: str
    ) -> None:
        """robot_yaml: the text of the robot's file. weights: name of the policy's.

        Raises `ConfigError` for a robot whose commands are no trajectories, `SystemSetupError` outside a checkout.
        """
        if robot.kind != "trajectory" or robot.gripper is None or robot.gripper.kind != "trajectory":
            raise ConfigError(
                f"robot={robot.name} takes no trajectories; record= writes commands of trajectories alone"
            )
        types()
        self._folder, self._yaml, self._robot, self._gripper = folder, robot_yaml, robot, robot.gripper
        self._world, self._policy, self._weights = world, policy, weights
        names = {**topics_of(robot), **{role: role for role in OURS}}
        self._topics = {role: absolute(name, "") for role, name in names.items()}
        self._period, self._software = 1.0 / world.spec.control_hz, {"emu_robot": version(), "git": commit() or ""}
        self._recording: McapRecording | None = None
        self.path: Path | None = None

    # -- the episode

    def on_reset(self, instruction: str, seed: int, observation: Observation) -> None:
        self._began_ns, self._session = time.time_ns(), time.time_ns()
        self._now_ns = self._began_ns
        self._instruction, self._seed, self._gate_said = instruction, seed, ""
        self._subgoals = self._chunks = 0
        self._done: tuple[bool, ...] = ()
        self._success = False
        contract = Contract(
            task=instruction,
            robot=self._yaml,
            topics=self._topics,
            weights=self._weights,
            weights_sha256=weights_sha256(self._weights),
            software=self._software,
        )
        self.path = self._new_path(instruction)
        self._recording = McapRecording(self.path, contract, time_ns=self._began_ns, queue_bytes=QUEUE_BYTES)
        for role, topic in self._topics.items():
            self._recording.add(topic_of(topic, self._type(role), is_latched=role in LATCHED))
        self._observe(observation)
        self._judge()

    def on_chunk(self, tick: int, observation: Observation, chunk: ActionChunk) -> None:
        if PolicyEvent.PLANNED in chunk.events and chunk.step is not None:
            self._subgoal(chunk.step.subtask, chunk.step.subgoal)
        elif PolicyEvent.COMPLETE in chunk.events and chunk.step is None:
            self._subgoal("", None)
        self._chunks += 1
        self._put(
            "action_chunk",
            source="policy",
            session=self._session,
            sequence=self._chunks,
            dt=self._period,
            names=list(self._robot.dimension_names),
            actions=chunk.actions.astype(np.float64).ravel(),
        )
        self._put(
            "policy_status",
            session=self._session,
            instruction=self._instruction,
            subgoal_session=self._session,
            subgoal_sequence=self._subgoals,
            progress=float("nan") if chunk.progress is None else chunk.progress,
            chunks=self._chunks,
            inference=self._policy.took,
        )

    def on_transition(self, tick: int, action: Floats32, transition: Transition) -> None:
        self._command()
        self._tell_gate()
        self._now_ns = self._began_ns + round(1e9 * tick * self._period)
        self._observe(transition.observation)
        if (transition.success, transition.subtasks_done) != (self._success, self._done):
            self._success, self._done = self._success or transition.success, transition.subtasks_done
            self._judge()

    def on_end(self, result: EpisodeResult, observation: Observation) -> None:
        self._success = result.success
        self._judge()
        self._subgoal("", None, instruction="")
        self.close()

    def close(self) -> None:
        """End the running recording. Raises `SystemSetupError` if something of it is missing."""
        recording, self._recording = self._recording, None
        if recording is None:
            return
        recording.close()
        lost = recording.problem or (f"{recording.dropped.total()} messages dropped" if recording.dropped else "")
        if lost:
            raise SystemSetupError(f"{recording.path}: {lost}")

    # -- messages

    def _observe(self, observation: Observation) -> None:
        for camera, picture in observation.images.items():
            if f"camera.{camera}" in self._topics:
                self._send(f"camera.{camera}", image_message(picture, self._now_ns, camera))
        joints, gripper, state = self._robot.joints.names, self._gripper, observation.state.astype(np.float64)
        names = [*joints, *([] if gripper.joint_states else [gripper.joint])]
        values = np.append(state[: len(joints)], gripper.position(float(state[-1])))
        self._put("joint_states", name=names, position=values[: len(names)])
        if gripper.joint_states:
            self._put("gripper_joint_states", name=[gripper.joint], position=values[-1:])

    def _command(self) -> None:
        joints, commanded = self._robot.joints.names, self._world.commanded.astype(np.float64)
        self._trajectory("arm_command", joints, commanded[: len(joints)])
        self._trajectory("gripper_command", (self._gripper.joint,), [self._gripper.position(float(commanded[-1]))])

    def _trajectory(self, role: str, names: Any, positions: Any) -> None:
        ahead = message("builtin_interfaces/Duration", nanosec=round(1e9 * self._period))
        point = message(
            "trajectory_msgs/JointTrajectoryPoint", positions=np.array(positions, np.float64), time_from_start=ahead
        )
        self._put(role, joint_names=list(names), points=[point])

    def _subgoal(self, subtask: str, image: Image | None, instruction: str | None = None) -> None:
        self._subgoals += 1
        given = {} if image is None else {"image": image_message(image, self._now_ns, self._robot.planner_camera)}
        self._put(
            "subgoal",
            session=self._session,
            sequence=self._subgoals,
            instruction=self._instruction if instruction is None else instruction,
            subtask=subtask,
            **given,
        )
        if image is not None:
            self._send("subgoal_image", given["image"])

    def _tell_gate(self) -> None:
        gate = self._world.gate
        if gate is not None and gate.state.value + gate.reason != self._gate_said:
            self._gate_said = gate.state.value + gate.reason
            self._put("safety_state", state=gate.state.value, reason=gate.reason)

    def _judge(self) -> None:
        self._put(
            "episode_state",
            seed=self._seed,
            instruction=self._instruction,
            success=self._success,
            n_subtasks=len(self._done),
            subtasks_done=sum(self._done),
            duration=1e-9 * (self._now_ns - self._began_ns),
        )

    def _type(self, role: str) -> str:
        if role in OURS:
            return OURS[role]
        if role.startswith("camera."):
            return "sensor_msgs/msg/Image"
        return "sensor_msgs/msg/JointState" if role.endswith("joint_states") else "trajectory_msgs/msg/JointTrajectory"

    def _put(self, role: str, **fields: Any) -> None:
        """Write a message of a role, with a header of now."""
        self._send(role, message(self._type(role).replace("/msg/", "/"), header=stamped(self._now_ns), **fields))

    def _send(self, role: str, content: Any) -> None:
        assert self._recording is not None
        self._recording.put(self._topics[role], self._now_ns, serialized(content, self._type(role)))

    def _new_path(self, task: str) -> Path:
        words = re.sub(r"[^a-z0-9]+", "_", task.lower()).strip("_")[:40]
        name = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{words}"
        names = (name if i == 0 else f"{name}_{i}" for i in count())
        return next(path for path in map(self._folder.joinpath, names) if not path.exists())
