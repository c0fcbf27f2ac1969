"""Listens to the running graph for a few seconds and reports what would keep the robot from moving. Commands nothing.

python -m emu_robot_ros.preflight --robot=ur5e [--nodes=safety,planner,policy] [--namespace=…]
"""

import argparse
import sys
import time
import zlib
from collections import Counter
from functools import partial
from typing import Any

import rclpy
from emu_robot_interfaces.msg import SafetyState
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Header

from emu_robot.control.safety import MeasuredJoints, SafetyConfig
from emu_robot.deploy.graph_file import graph_path, read_graph_file
from emu_robot.deploy.preflight import (
    COMMAND_TYPES,
    SAFETY,
    CommandTopic,
    ImageStream,
    JointStream,
    NodeSeen,
    Seen,
    Stream,
    judge,
)
from emu_robot.doctor import Check, report
from emu_robot.errors import EmuRobotError
from emu_robot.observation.camera_messages import describe, is_compressed, message_type
from emu_robot.observation.config import ObservationConfig
from emu_robot.observation.joint_states import JointReader
from emu_robot.robots.deployment import Deployment, read_deployment
from emu_robot.robots.ros_names import read_namespace
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import positions, seconds, to_image
from emu_robot_ros.rivals import rivals

LISTEN_S, MOST_S = 3.0, 6.0
"""How long to listen, and how long at most if there is a problem [s]: some nodes are found only when they announce
themselves again, every 3 s.
"""


class PreflightNode(Node):
    """Gathers a `Seen`: subscribes to the topics of the robot's drivers, and asks our nodes for their state."""

    def __init__(self, robot: Deployment, ours: list[str], **options: Any) -> None:
        super().__init__("preflight", **options)
        self._robot, self._ours = robot, ours
        arm, *others = [JointStream(topic=self.resolve_topic_name(topic)) for topic in robot.joint_state_topics]
        self._joints, self._gripper = arm, others[0] if others else None
        for stream, names in zip((arm, *others), (robot.joints.names, robot.dimension_names[-1:]), strict=False):
            take = partial(self._on_joints, stream, set(names))
            self.create_subscription(JointState, stream.topic, take, qos.JOINT_STATES_IN)
        self._cameras = {
            name: ImageStream(topic=self.resolve_topic_name(topic)) for name, topic in robot.cameras.items()
        }
        self._reader = JointReader(robot)
        self._measured = MeasuredJoints(SafetyConfig(), robot.limits, robot.dimension_names, robot.n_joints)
        self._gate = SafetyState()
        self._questions = {name: self._questions_for(name) for name in ours}
        self._said: dict[tuple[str, str], Any] = {}
        for name, topic in robot.cameras.items():
            kind = CompressedImage if is_compressed(topic) else Image
            self.create_subscription(kind, topic, partial(self._on_image, name), qos.CAMERA)
        self.create_subscription(SafetyState, topics.SAFETY_STATE, self._on_gate, qos.LATCHED)

    def ask(self) -> None:
        """Send each question once, as soon as its service is there."""
        for name, (state, parameters) in self._questions.items():
            if (name, "state") not in self._said and state.service_is_ready():
                self._said[name, "state"] = state.call_async(GetState.Request())
            if (name, "parameters") not in self._said and parameters.service_is_ready():
                request = GetParameters.Request(names=["use_sim_time", "robot"])
                self._said[name, "parameters"] = parameters.call_async(request)

    def seen(self) -> Seen:
        """The observations so far."""
        full_names = [f"{space.rstrip('/')}/{name}" for name, space in self.get_node_names_and_namespaces()]
        count = Counter(full_names)
        for stream in (self._joints, *([self._gripper] if self._gripper else [])):
            self._look_up(stream, "sensor_msgs/msg/JointState")
        for camera in self._cameras.values():
            self._look_up(camera, message_type(camera.topic))
        robot, space = self._robot, self.get_namespace().rstrip("/")
        gripper = [self._commands(robot.gripper.topic, robot.gripper.kind)] if robot.gripper else []
        return Seen(
            joints=self._joints,
            joints_refused=(self._measured.counts["bad joint state"], self._measured.refusal),
            gripper=self._gripper,
            cameras=self._cameras,
            commands=[self._commands(robot.command_topic, robot.kind), *gripper],
            nodes={name: self._node(name, count[f"{space}/{name}"]) for name in self._ours},
            duplicates=sorted(name for name, times in count.items() if times > 1),
            gate_state=self._gate.state,
            gate_reason=self._gate.reason,
            clock_publishers=self.count_publishers("/clock"),
            namespace=space,
        )

    def _questions_for(self, name: str) -> tuple[Any, Any]:
        return self.create_client(GetState, f"{name}/get_state"), self.create_client(
            GetParameters, f"{name}/get_parameters"
        )

    def _on_joints(self, stream: JointStream, names: set[str], message: JointState) -> None:
        self._judge(message)
        found = positions(message)
        stream.positions.update(found)
        stream.complete += names <= set(found)
        self._arrived(stream, message.header)

    def _judge(self, message: JointState) -> None:
        """Check whether the safety gate would believe a joint state."""
        now, stamp = time.monotonic(), message.header.stamp
        try:
            state = self._reader.read(message.name, message.position)
        except EmuRobotError as error:
            self._measured.refuse(str(error), now)
            return
        if state is not None:
            age = 1e-9 * self.get_clock().now().nanoseconds - seconds(stamp) if stamp.sec else 0.0
            self._measured.take(state, now, age)

    def _on_image(self, name: str, message: Image | CompressedImage) -> None:
        camera = self._cameras[name]
        camera.what = describe(message)
        camera.different.add(zlib.crc32(message.data))
        try:
            image = to_image(message)
            camera.what = describe(message, image)
            dark = image[::4, ::4].std() < ObservationConfig().min_contrast
            camera.problem = "shows nothing. Is its lens covered, or the light off?" if dark else ""
        except EmuRobotError as error:
            camera.problem = f"{error}. Set the driver's encoding"
        self._arrived(camera, message.header)

    def _on_gate(self, message: SafetyState) -> None:
        self._gate = message

    def _arrived(self, stream: Stream, header: Header) -> None:
        stream.arrivals.append(time.monotonic())
        if header.stamp.sec:
            stream.ages.append(1e-9 * self.get_clock().now().nanoseconds - seconds(header.stamp))

    def _look_up(self, stream: Stream, kind: str) -> None:
        stream.publishers = [_name_of(end) for end in self.get_publishers_info_by_topic(stream.topic)]
        stream.elsewhere = [
            topic
            for topic, kinds in self.get_topic_names_and_types()
            if kind in kinds and topic != stream.topic and self.count_publishers(topic)
        ]

    def _commands(self, topic: str, kind: str) -> CommandTopic:
        topic = self.resolve_topic_name(topic)
        others = rivals(self, topic, owner=(SAFETY, self.get_namespace()))
        if kind == "gripper_command":
            services = [name for name, _ in self.get_service_names_and_types()]
            taken = [f"the action server {topic}"] if f"{topic}/_action/send_goal" in services else []
            return CommandTopic(topic=topic, kind=kind, subscribers=taken, rivals=others)
        return CommandTopic(
            topic=topic,
            kind=kind,
            rivals=others,
            publishers=[_name_of(end) for end in self.get_publishers_info_by_topic(topic)],
            subscribers=[_name_of(end) for end in self.get_subscriptions_info_by_topic(topic)],
            elsewhere=[
                name
                for name, kinds in self.get_topic_names_and_types()
                if COMMAND_TYPES[kind] in kinds and name != topic and self.count_subscribers(name)
            ],
        )

    def _node(self, name: str, count: int) -> NodeSeen:
        node, state = NodeSeen(count=count), self._said.get((name, "state"))
        if state is not None and state.done():
            node.lifecycle = state.result().current_state.label
        parameters = self._said.get((name, "parameters"))
        if parameters is not None and parameters.done():
            values = [parameter_value_to_python(value) for value in parameters.result().values]
            sim_time, robot = values if len(values) == 2 else (None, None)
            node.uses_sim_time = None if sim_time is None else bool(sim_time)
            node.robot = read_deployment(str(robot)).name if robot else None
        return node


def look(robot: Deployment, expected: list[str], *, listen_s: float, most_s: float, namespace: str = "") -> list[Check]:
    """All checks after `listen_s` of listening; while a required check fails, listen on, up to `most_s`."""
    context = rclpy.Context()
    rclpy.init(context=context)
    ours = list(dict.fromkeys([*expected, *read_graph_file(graph_path()).nodes]))
    node = PreflightNode(robot, ours, context=context, namespace=namespace)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        start = time.monotonic()
        while True:
            until = time.monotonic() + listen_s
            while time.monotonic() < until:
                node.ask()
                executor.spin_once(timeout_sec=0.02)
            checks, listen_s = judge(node.seen(), robot, expected), 0.5
            if time.monotonic() - start >= most_s or not any(check.problem and check.required for check in checks):
                return checks
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def _name_of(end: Any) -> str:
    """Full name of the node of an endpoint."""
    return f"{end.node_namespace.rstrip('/')}/{end.node_name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robot", default="panda_sim", help="a robot that ships, or a YAML file")
    parser.add_argument("--nodes", default="safety", help="our nodes that must run, separated by commas")
    parser.add_argument("--namespace", default="")
    wanted = parser.parse_args()
    try:
        robot, expected = read_deployment(wanted.robot), [name for name in wanted.nodes.split(",") if name]
        namespace = read_namespace(wanted.namespace)
        checks = look(robot, expected, listen_s=LISTEN_S, most_s=MOST_S, namespace=namespace)
    except EmuRobotError as error:
        sys.exit(f"error: {error}")
    sys.exit(0 if report(checks) else 1)


if __name__ == "__main__":
    main()
