"""Judges from observations of a running ROS graph whether a robot may move. Knows no ROS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from emu_robot.control.safety import GateState, SafetyConfig
from emu_robot.doctor import Check
from emu_robot.observation.config import ObservationConfig
from emu_robot.robots.deployment import Deployment, Gripper
from emu_robot.robots.ros_names import absolute, node_label

SLOW_CAMERA_HZ, SLOW_GRIPPER_HZ = 10.0, 10.0
COMMAND_TYPES = {
    "trajectory": "trajectory_msgs/msg/JointTrajectory",
    "positions": "std_msgs/msg/Float64MultiArray",
    "gripper_command": "the action control_msgs/action/GripperCommand",
}
SAFETY = "safety"


@dataclass(kw_only=True)
class Stream:
    """Observations of one topic over a few seconds."""

    topic: str
    """Full name of the topic."""
    publishers: Sequence[str] = ()
    """Nodes that publish it."""
    elsewhere: Sequence[str] = ()
    """Other topics of this type that have publishers."""
    arrivals: list[float] = field(default_factory=list)
    """Arrivals of messages on the steady clock [s]."""
    ages: list[float] = field(default_factory=list)
    """Ages of the stamped messages at arrival, now - stamp [s]."""

    @property
    def rate(self) -> float:
        """Messages per second [Hz]; 0 for fewer than two messages."""
        span = self.arrivals[-1] - self.arrivals[0] if self.arrivals else 0.0
        return (len(self.arrivals) - 1) / span if span else 0.0


@dataclass(kw_only=True)
class JointStream(Stream):
    """Observations of joint states."""

    positions: dict[str, float] = field(default_factory=dict)
    """Latest position of every joint seen."""
    complete: int = 0
    """Number of messages that hold all joints expected on the topic."""


@dataclass(kw_only=True)
class ImageStream(Stream):
    """Observations of a camera."""

    what: str = ""
    """Size and encoding of the latest picture."""
    problem: str = ""
    """Why the latest picture cannot be used; empty if it can."""
    different: set[int] = field(default_factory=set)
    """Checksums of the distinct pictures."""


@dataclass(kw_only=True)
class CommandTopic:
    """Observations of a controller's command interface."""

    topic: str
    """Full name of the topic or action."""
    kind: str
    """Kind of the commands: a key of `COMMAND_TYPES`."""
    publishers: Sequence[str] = ()
    """Nodes that send commands."""
    subscribers: Sequence[str] = ()
    """Nodes that take commands."""
    elsewhere: Sequence[str] = ()
    """Other topics of this type that have subscribers."""
    rivals: str = ""
    """Nodes beside the gate that could command the same controller, in words; empty if there are none."""


@dataclass(kw_only=True)
class NodeSeen:
    """Observations of one of our nodes. None: it did not answer in time."""

    count: int
    """Number of nodes of this name."""
    lifecycle: str | None = None
    """State of its lifecycle."""
    robot: str | None = None
    """Name of its robot."""
    uses_sim_time: bool | None = None
    """Its parameter use_sim_time."""


@dataclass(kw_only=True)
class Seen:
    """All observations of a running graph."""

    joints: JointStream
    """Joint states of the arm."""
    joints_refused: tuple[int, str] = (0, "")
    """Number of joint states that the gate would not believe, and the reason for the last one."""
    gripper: JointStream | None = None
    """Joint states of the gripper, if it has its own."""
    cameras: Mapping[str, ImageStream]
    """Cameras by name."""
    commands: Sequence[CommandTopic]
    """Command interfaces of arm and gripper."""
    nodes: Mapping[str, NodeSeen]
    """Our nodes by name."""
    duplicates: Sequence[str] = ()
    """Full names that several nodes have."""
    gate_state: str = ""
    """State of the safety gate; empty if it did not send one."""
    gate_reason: str = ""
    """Reason for that state."""
    clock_publishers: int = 0
    """Number of publishers of /clock."""
    namespace: str = ""
    """Absolute namespace of our nodes; empty for the root."""


def judge(seen: Seen, robot: Deployment, expected: Sequence[str]) -> list[Check]:
    """All checks of a robot's running graph. expected: our nodes that must run."""
    return [
        *check_joints(seen.joints, robot),
        *check_believed(seen),
        *(check_gripper_joints(seen.gripper, robot.gripper) if seen.gripper and robot.gripper else ()),
        *(check for name, camera in seen.cameras.items() for check in check_camera(name, camera)),
        *(check for command in seen.commands for check in check_commands(command, robot.name, seen.namespace)),
        *check_nodes(seen, expected),
        *check_gate(seen, robot.name),
        *check_time(seen),
    ]


def check_joints(stream: JointStream, robot: Deployment) -> list[Check]:
    """The joint states hold all joints, come often enough, are stamped by the same clock, and lie within limits."""
    topic, names = stream.topic, robot.joints.names
    expected = names if robot.gripper is None or robot.gripper.joint_states else robot.dimension_names
    if not stream.arrivals:
        return [_silent(stream, "joint states", "the arm's driver", "joint_states")]
    config, problem = SafetyConfig(), _lacking(stream, expected)
    if not problem and not stream.complete:
        problem = f"no message on {topic} holds all joints of the arm. Publish them together"
    beside = " and the gripper" * (len(expected) > len(names))
    checks = [Check(name=f"{topic} has the {len(names)} joints{beside}", problem=problem)]
    checks.append(_check_rate(stream, 2 / config.state_timeout_s, "the arm's driver"))
    checks.append(_check_age(stream, config.state_timeout_s, config.future_tolerance_s))
    outside = [
        f"{name} is at {stream.positions[name]:.3f}, not in [{low:g}, {high:g}]"
        for name, low, high in zip(names, robot.joints.lower, robot.joints.upper, strict=True)
        if name in stream.positions and not low <= stream.positions[name] <= high
    ]
    problem = f"{'; '.join(outside)}. Move the arm there by its own means, or correct the limits" if outside else None
    return [*checks, Check(name="joints are within their limits", problem=problem)]


def check_believed(seen: Seen) -> list[Check]:
    """The joint states do not contradict each other; else the gate would refuse to arm."""
    refused, why = seen.joints_refused
    remedy = f"Look who sends them: ros2 topic info -v {seen.joints.topic}"
    problem = f"the safety gate would not believe {refused} of the joint states: {why}. {remedy}" if refused else None
    return [Check(name="joint states can be believed", problem=problem)] if seen.joints.arrivals else []


def check_gripper_joints(stream: JointStream, gripper: Gripper) -> list[Check]:
    """The gripper's own joint states hold its joint, are stamped by the same clock, and lie between closed and open.

    Their rate is not checked: many drivers send ten per second.
    """
    if not stream.arrivals:
        return [_silent(stream, "joint states of the gripper", "its driver", "gripper.joint_states")]
    topic, joint, safety = stream.topic, gripper.joint, SafetyConfig()
    checks = [Check(name=f"{topic} has the gripper", problem=_lacking(stream, (joint,)))]
    checks.append(_check_age(stream, max(safety.state_timeout_s, 2 / SLOW_GRIPPER_HZ), safety.future_tolerance_s))
    if joint in stream.positions and not -0.1 <= gripper.opening(stream.positions[joint]) <= 1.1:
        at, ends = stream.positions[joint], f"{gripper.closed:g} (closed) and {gripper.open:g} (open)"
        problem = (
            f"{joint} is at {at:g}, not between {ends}. Correct gripper.closed and gripper.open in the robot's file"
        )
        checks.append(Check(name="the gripper is between closed and open", problem=problem))
    return checks


def check_camera(name: str, stream: ImageStream) -> list[Check]:
    """The pictures can be read, change, and are recent."""
    if not stream.arrivals:
        return [_silent(stream, f"pictures of camera {name}", "its driver", f"cameras.{name}")]
    what = f"{stream.topic}: {stream.what}"
    problem = f"{stream.topic}: {stream.problem}" if stream.problem else None
    checks = [Check(name=what, problem=problem), _check_rate(stream, SLOW_CAMERA_HZ, "the camera")]
    if len(stream.arrivals) > 2 and len(stream.different) == 1:
        problem = f"{stream.topic}: {len(stream.arrivals)} times the same picture. A real camera has frozen: restart it"
        checks.append(
            Check(name="pictures change", problem=problem, required=False)
        )  # a simulation at rest does not change
    if len(stream.publishers) > 1:
        problem = f"{stream.topic} has several publishers: {', '.join(stream.publishers)}. Leave one"
        checks.append(Check(name="one publisher", problem=problem))
    config = ObservationConfig()
    return [*checks, _check_age(stream, config.max_age_s, config.future_tolerance_s)]


def check_commands(command: CommandTopic, robot: str, namespace: str = "") -> list[Check]:
    """A controller takes commands, and only the gate of this namespace gives any."""
    topic, problem = command.topic, None
    if not command.subscribers:
        others = f"; {COMMAND_TYPES[command.kind]} is taken on: {', '.join(command.elsewhere)}" * bool(
            command.elsewhere
        )
        remedy = f"Start the controller (ros2 control list_controllers), or correct the topic in the file of {robot}"
        problem = f"no node takes commands on {topic}{others}. {remedy}"
    checks = [Check(name=f"{topic} is taken by {', '.join(command.subscribers)}", problem=problem)]
    rivals = [node for node in command.publishers if node != absolute(SAFETY, namespace)]
    given, problem = ", ".join(command.publishers) or "no node yet", None
    if rivals or len(command.publishers) > 1:
        gate = absolute(SAFETY, namespace)
        problem = f"{topic} has other publishers than one safety gate: {given}. End all but {gate}, or it will not arm"
    elif command.rivals:
        problem = f"{command.rivals}. End it, or the gate will not arm"
    return [*checks, Check(name=f"{topic} is given by {given}", problem=problem)]


def check_nodes(seen: Seen, expected: Sequence[str]) -> list[Check]:
    """Each of our nodes runs once, answers, and is active."""
    checks = []
    for name in dict.fromkeys([*expected, *(name for name, node in seen.nodes.items() if node.count)]):
        node, problem = seen.nodes.get(name, NodeSeen(count=0)), None
        full, name = absolute(name, seen.namespace), node_label(name, seen.namespace)
        if not node.count:
            problem = f"the node {name} does not run, or hangs. Start it: emu-robot bringup{_typed(seen.namespace)}"
        elif node.lifecycle is None:
            problem = (
                f"the node {name} does not answer: it still loads, hangs, or lacks CPU time. Wait, then restart it"
            )
        elif node.lifecycle != "active":
            problem = f"the node {name} is {node.lifecycle}. Its log says why; then ros2 lifecycle set {full} activate"
        checks.append(Check(name=f"node {name} is active", problem=problem))
    if seen.duplicates:
        problem = (
            f"several nodes are called {', '.join(seen.duplicates)}. End all but one, or use another ROS_DOMAIN_ID"
        )
        checks.append(Check(name="every node's name is its own", problem=problem))
    return checks


def check_gate(seen: Seen, robot: str) -> list[Check]:
    """The gate is for this robot and not stopped."""
    node = seen.nodes.get(SAFETY)
    if node is None or not node.count or node.lifecycle is None:
        return []
    problem = None
    if node.robot is not None and node.robot != robot:
        problem = f"the safety gate was started for {node.robot}, this is {robot}. Start it with robot={robot}"
    checks = [Check(name=f"safety gate for {robot}", problem=problem)]
    problem = None
    if not seen.gate_state:
        problem = "the safety gate does not say its state. Is it of this version? Restart it"
    elif seen.gate_state in (GateState.FAULT, GateState.ESTOP):
        reset = absolute("reset_estop", seen.namespace)
        remedy = f"When its cause is gone: ros2 service call {reset} std_srvs/srv/Trigger"
        problem = f"the safety gate is in {seen.gate_state} ({seen.gate_reason}). {remedy}"
    return [*checks, Check(name=f"safety gate: {seen.gate_state} ({seen.gate_reason})", problem=problem)]


def check_time(seen: Seen) -> list[Check]:
    """Our nodes use the same clock, and it runs."""
    uses = {name: node.uses_sim_time for name, node in seen.nodes.items() if node.uses_sim_time is not None}
    simulated, problem = [name for name, use in uses.items() if use], None
    if simulated and len(simulated) < len(uses):
        problem = f"use_sim_time is set for {', '.join(simulated)} only. Set it for all nodes, or for none"
    elif simulated and not seen.clock_publishers:
        problem = "use_sim_time is set and no node publishes /clock: time stands still. Unset it"
    name = f"{'simulated' if simulated else 'system'} clock for {', '.join(uses)}"
    return [Check(name=name, problem=problem)] if uses else []


def _lacking(stream: JointStream, expected: Sequence[str]) -> str | None:
    """The problem if a topic lacks some of these joints; else None."""
    missing = [name for name in expected if name not in stream.positions]
    found = ", ".join(sorted(stream.positions)) or "none"
    lacks = f"{stream.topic} lacks {', '.join(missing)}; it has {found}. Correct the names in the robot's file"
    return lacks if missing else None


def _typed(namespace: str) -> str:
    """The namespace as an argument of bringup."""
    return f" namespace={namespace.lstrip('/')}" if namespace else ""


def _silent(stream: Stream, what: str, driver: str, key: str) -> Check:
    """The failed check of a topic on which nothing came."""
    if stream.publishers:
        problem = f"{', '.join(stream.publishers)} publishes {stream.topic} but nothing came. Look at its log"
    else:
        elsewhere = f" (there is {', '.join(stream.elsewhere)})" if stream.elsewhere else ""
        problem = f"no {what} on {stream.topic}{elsewhere}. Start {driver}, or correct {key} in the robot's file"
    return Check(name=stream.topic, problem=problem)


def _check_rate(stream: Stream, needed: float, source: str) -> Check:
    name = f"{stream.topic}: {stream.rate:.0f} Hz"
    problem = f"{name}, at least {needed:.0f} are needed. Raise the rate of {source}" if stream.rate < needed else None
    return Check(name=name, problem=problem)


def _check_age(stream: Stream, most: float, ahead: float) -> Check:
    """The stamps are of this machine's clock. most: largest age [s]. ahead: how far they may lie in the future [s]."""
    if not stream.ages:
        problem = f"{stream.topic} is not stamped: its age cannot be judged. Let the driver stamp its messages"
        return Check(name="stamps", problem=problem)
    age, name = median(stream.ages), f"{stream.topic}: {1000 * median(stream.ages):.0f} ms old"
    problem = None
    if age < -ahead:
        problem = (
            f"{stream.topic} is stamped {-age:.3f} s ahead. Synchronise the clocks (chrony), or unset use_sim_time"
        )
    elif age > most:
        problem = (
            f"{name}, at most {1000 * most:.0f} are allowed. Synchronise the clocks (chrony), or relieve the driver"
        )
    return Check(name=name, problem=problem)
