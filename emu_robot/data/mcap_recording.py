"""Read an episode from a recording: times of pictures, positions of joints, commands and subtasks.

Times are times of arrival, in seconds since the recording's first message, because a policy knows only what has
arrived. Suffixes: N messages, J joints.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from emu_robot.core import Floats
from emu_robot.data.mcap_reading import McapFile, RecordedMessage
from emu_robot.data.recording_contract import CONTRACT_TOPIC, Contract, topics_of
from emu_robot.errors import DataError
from emu_robot.observation.camera_messages import COMPRESSED, RAW
from emu_robot.robots.deployment import Deployment, read_deployment
from emu_robot.robots.ros_names import absolute, read_namespace

type Taker = Callable[[RecordedMessage, Any], None]

TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
OURS = ("action_chunk", "subgoal", "episode_state")
"""Roles of our own topics that describe an episode, and their names unless a contract names others."""


class Samples(NamedTuple):
    """Values (N, ...) of a topic at ascending times (N,) [s]."""

    topic: str
    times: Floats
    values: Floats


class Intended(NamedTuple):
    """The subtask pursued from `time` [s] on. Without words the task was complete (`is_complete`) or stopped."""

    time: float
    words: str
    is_complete: bool = False


class Openings(NamedTuple):
    """The gripper's part of a chunk that arrived at `time` [s]: openings for start, start + dt, ... [s]."""

    time: float
    start: float
    dt: float
    openings: Floats


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Everything in a recording but its pictures."""

    path: Path
    """The MCAP file."""
    contract: Contract | None
    """What our recorder wrote first; None for recordings of others."""
    robot: Deployment
    """The robot."""
    task: str
    """The instruction."""
    cameras: dict[str, Samples]
    """Our name -> times of its pictures; the values count them."""
    joints: dict[str, Samples]
    """Name -> measured positions."""
    arm: Samples
    """Commanded positions (N, J), at the times for which they were meant."""
    gripper: Samples | None
    """Commanded openings, at the times for which they were meant. None without a gripper, and for a driver that takes
    action goals, which no topic carries: then `chunks` holds the openings."""
    chunks: list[Openings]
    """The gripper's parts of the chunks."""
    intended: list[Intended]
    """The planner's subtasks, in order."""
    success: bool | None
    """Success of a simulated episode, if recorded."""
    seed: int | None
    """Seed of a simulated episode, if recorded."""
    is_whole: bool
    """Whether the file was closed."""


def read_recorded(path: Path, *, robot: str = "", namespace: str = "", task: str = "") -> Recorded:
    """Read an MCAP file.

    robot, namespace: the deployment (name or YAML) and the namespace of its topics, for a file without a contract.
    task: the instruction; replaces the recording's own.

    Raises `DataError` naming what is missing or wrong, `UnknownNameError` and `ConfigError` for the robot.
    """
    return _Reading(McapFile(path), robot, read_namespace(namespace), task).result()


class _Reading:
    """Takes messages in the order of writing; a contract comes first."""

    def __init__(self, file: McapFile, robot: str, namespace: str, task: str) -> None:
        self._file, self._namespace, self._task, self._contract = file, namespace, task, None
        self._pictures: dict[str, list[float]] = defaultdict(list)
        self._joints: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._commands: dict[str, list[tuple[float, Sequence[float]]]] = defaultdict(list)
        self._chunks: list[Openings] = []
        self._intended: list[Intended] = []
        self._subgoal: tuple[int, int] | None = None
        self._instruction = ""
        self._success: bool | None = None
        self._seed: int | None = None
        self._last: dict[tuple[str, str], int] = {}
        messages = file.messages()
        first = next(messages, None)
        if first is None:
            raise DataError(f"{file.path}: holds no messages")
        self._start_ns = first.time_ns
        self._topics = self._begin(first, robot)
        takers = self._takers()
        for message in chain([first], messages):
            if message.topic in takers:
                take, types = takers[message.topic]
                if message.type not in types:
                    raise self._error(message, f"{message.type}, expected {' or '.join(types)}")
                self._check_order(message.topic, "times", message.time_ns)
                take(message, file.decode(message))

    def _begin(self, first: RecordedMessage, robot: str) -> Mapping[str, str]:
        """Role -> topic."""
        source = str(self._file.path)
        if first.topic == CONTRACT_TOPIC:
            self._contract = contract = Contract.from_json(self._file.decode(first).data, source)
            self._robot, topics = contract.deployment(source), contract.topics
        elif robot:
            self._robot = read_deployment(robot)
            named = {**topics_of(self._robot), **{role: role for role in OURS}}
            topics = {role: absolute(name, self._namespace) for role, name in named.items()}
        else:
            raise DataError(f"{source}: has no contract, so our recorder did not make it; say robot= and task=")
        missing = [role for role in (*topics_of(self._robot), *OURS) if role not in topics]
        if missing:
            raise DataError(f"{source}: its contract names no topic for {', '.join(missing)}")
        return topics

    def _takers(self) -> dict[str, tuple[Taker, tuple[str, ...]]]:
        """Topic -> what takes its messages, and their types."""
        by_role: dict[str, tuple[Taker, tuple[str, ...]]] = {
            f"camera.{name}": (partial(self._on_picture, name), (RAW, COMPRESSED)) for name in self._robot.cameras
        }
        robot, commands = self._robot, (TRAJECTORY, "std_msgs/msg/Float64MultiArray")
        for role in ("joint_states", "gripper_joint_states"):
            by_role[role] = (partial(self._on_joint_state, role), ("sensor_msgs/msg/JointState",))
        by_role |= {
            "arm_command": (partial(self._on_command, robot.joints.names), commands),
            "gripper_command": (partial(self._on_command, robot.dimension_names[robot.n_joints :]), commands),
            "action_chunk": (self._on_chunk, ("emu_robot_interfaces/msg/ActionChunk",)),
            "subgoal": (self._on_subgoal, ("emu_robot_interfaces/msg/Subgoal",)),
            "episode_state": (self._on_episode_state, ("emu_robot_interfaces/msg/EpisodeState",)),
        }
        return {self._topics[role]: how for role, how in by_role.items() if role in self._topics}

    # -- taking

    def _on_picture(self, name: str, message: RecordedMessage, picture: Any) -> None:
        self._check_stamp(message, picture)
        self._pictures[name].append(self._seconds(message.time_ns))

    def _on_joint_state(self, role: str, message: RecordedMessage, state: Any) -> None:
        """Take each joint from its own topic only, as other topics may hold it, too."""
        self._check_stamp(message, state)
        now = self._seconds(message.time_ns)
        for name, position in zip(state.name, state.position, strict=False):
            if self._role_of(name) == role:
                self._joints[name].append((now, float(position)))

    def _role_of(self, joint: str) -> str:
        """Role of the topic with a joint's positions."""
        gripper = self._robot.gripper
        is_apart = gripper is not None and gripper.joint == joint and gripper.joint_states != ""
        return "gripper_joint_states" if is_apart else "joint_states"

    def _on_command(self, names: Sequence[str], message: RecordedMessage, command: Any) -> None:
        """Take a trajectory of one point, as the safety gate sends it, or positions for now."""
        offset, given = 0.0, list(names)
        if message.type == TRAJECTORY:
            if len(command.points) != 1:
                raise self._error(message, f"trajectory of {len(command.points)} points; the safety gate sends one")
            point, given = command.points[0], list(command.joint_names)
            offset = point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec
            positions = point.positions
        else:
            positions = command.data
        if set(given) != set(names) or len(positions) != len(names):
            said = f"command of {len(positions)} positions for {given}; the robot has {list(names)}"
            raise self._error(message, said)
        ordered = [float(positions[given.index(name)]) for name in names]
        self._commands[message.topic].append((self._seconds(message.time_ns) + offset, ordered))

    def _on_chunk(self, message: RecordedMessage, chunk: Any) -> None:
        """Take the gripper's part of a valid chunk; nothing for a robot without gripper."""
        names = self._robot.dimension_names
        if self._robot.gripper is None:
            return
        fits = (
            tuple(chunk.names) == names and chunk.dt > 0 and len(chunk.actions) and not len(chunk.actions) % len(names)
        )
        if not fits or not np.isfinite(chunk.actions).all():
            return
        openings = chunk.actions.reshape(-1, len(names))[:, -1]
        start = self._seconds(_stamp_ns(chunk) or message.time_ns)
        self._chunks.append(Openings(self._seconds(message.time_ns), start, chunk.dt, openings))

    def _on_subgoal(self, message: RecordedMessage, subgoal: Any) -> None:
        if self._subgoal == (subgoal.session, subgoal.sequence):
            return
        self._subgoal = (subgoal.session, subgoal.sequence)
        self._instruction = self._instruction or subgoal.instruction
        words = subgoal.subtask if subgoal.instruction else ""
        is_complete = bool(subgoal.instruction) and not words
        self._intended.append(Intended(self._seconds(message.time_ns), words, is_complete))

    def _on_episode_state(self, message: RecordedMessage, state: Any) -> None:
        self._success, self._seed = bool(state.success), int(state.seed)

    # -- in the end

    def result(self) -> Recorded:
        task = self._task or (self._contract.task if self._contract else "") or self._instruction
        if not task:
            raise DataError(f"{self._file.path}: neither its contract nor a subgoal holds the task; say task=")
        robot = self._robot
        return Recorded(
            path=self._file.path,
            contract=self._contract,
            robot=robot,
            task=task,
            cameras={name: self._camera_samples(name) for name in robot.cameras},
            joints={name: self._joint_samples(name) for name in robot.dimension_names},
            arm=self._command_samples("arm_command"),
            gripper=self._gripper_samples(),
            chunks=self._chunks,
            intended=self._intended,
            success=self._success,
            seed=self._seed,
            is_whole=self._file.is_whole,
        )

    def _camera_samples(self, name: str) -> Samples:
        topic = self._topics[f"camera.{name}"]
        times = self._pictures[name] or self._missing(f"picture of camera {name}", topic)
        return Samples(topic, np.array(times), np.arange(len(times), dtype=np.float64))

    def _joint_samples(self, name: str) -> Samples:
        role, found = self._role_of(name), self._joints[name]
        topic, seen = self._topics[role], [one for one, some in self._joints.items() if some]
        if not found and (there := ", ".join(one for one in seen if self._role_of(one) == role)):
            raise DataError(f"{self._file.path}: no joint {name} on {topic}; there are {there}")
        times, positions = zip(*(found or self._missing("joint state", topic)), strict=True)
        return Samples(topic, np.array(times), np.array(positions))

    def _command_samples(self, role: str) -> Samples:
        topic = self._topics[role]
        times, positions = zip(*(self._commands[topic] or self._missing("command", topic)), strict=True)
        order = np.argsort(times, kind="stable")
        return Samples(topic, np.array(times)[order], np.array(positions)[order])

    def _gripper_samples(self) -> Samples | None:
        gripper = self._robot.gripper
        if gripper is None or "gripper_command" not in self._topics:
            return None
        found = self._command_samples("gripper_command")
        return found._replace(values=np.array([gripper.opening(position) for position in found.values[:, 0]]))

    # -- helpers

    def _seconds(self, time_ns: int) -> float:
        return 1e-9 * (time_ns - self._start_ns)

    def _check_stamp(self, message: RecordedMessage, decoded: Any) -> None:
        if stamp := _stamp_ns(decoded):
            self._check_order(message.topic, "stamps", stamp)

    def _check_order(self, topic: str, what: str, time_ns: int) -> None:
        before = self._last.get((topic, what), time_ns)
        self._last[topic, what] = time_ns
        if time_ns < before:
            there, back = self._seconds(before), 1e-9 * (before - time_ns)
            said = f"{what} run backwards by {back:.3f} s after {there:.3f} s; a clock was set, or two publishers sent"
            raise DataError(f"{self._file.path}: {topic}: {said}")

    def _error(self, message: RecordedMessage, what: str) -> DataError:
        return DataError(f"{self._file.path}: {message.topic} at {self._seconds(message.time_ns):.3f} s: {what}")

    def _missing(self, what: str, topic: str) -> NoReturn:
        there = ", ".join(f"{name} ({n})" for name, n in sorted(self._file.counts.items()))
        raise DataError(f"{self._file.path}: no {what} on {topic}; it has {there}")


def _stamp_ns(message: Any) -> int:
    """Stamp of a message's header [ns]; 0 if it was not set."""
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
