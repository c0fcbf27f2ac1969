"""The arm of a running graph as the arm of a session: `emu-robot teleop arm=ros:panda_sim`.

What the session commands goes to the graph's safety gate as chunks of the source `teleop`, as the node `teleop` sends
them. That gate alone commands the robot.
"""

import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from emu_robot_interfaces.msg import ActionChunk, PolicyStatus, SafetyState
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from emu_robot.control.safety import GateState
from emu_robot.core import Floats
from emu_robot.core import Image as Picture
from emu_robot.deploy.graph_file import graph_path, read_graph_file
from emu_robot.deploy.ros_environment import node_environment
from emu_robot.errors import ConfigError, EmuRobotError, SystemSetupError, UnknownNameError
from emu_robot.observation.camera_messages import is_compressed
from emu_robot.observation.joint_states import JointReader
from emu_robot.robots.arm import Kinematics
from emu_robot.robots.deployment import Deployment, read_deployment
from emu_robot.robots.ros_names import read_namespace
from emu_robot.robots.spec import ActionKind, RobotLayout
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import from_actions, seconds, to_image

INSTRUCTION = "teleoperation"
FIRST_S = 10.0
"""Longest wait for the first joint state, picture of each camera, and word of the gate [s]."""
SILENT_S = 2.0
"""Silence of the gate that is told [s]; it speaks twice a second."""
KEYS = ("graph", "namespace", "urdf", "tool")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was last heard of something."""

    what: Any
    """Its position (A,), or its picture."""
    at: float
    """When it was measured or received, on the steady clock [s]."""


def open_arm(name: str, words: Mapping[str, str]) -> "RosArm":
    """The arm of a running graph. name: that of its robot file. words: its settings, `KEYS`.

    Raises `EmuRobotError`, with nothing left open.
    """
    robot, unknown = read_deployment(name), [key for key in words if key not in KEYS]
    if unknown:
        raise UnknownNameError("setting of arm=ros", f"arm.{unknown[0]}", [f"arm.{key}" for key in KEYS])
    namespace = read_namespace(words.get("namespace", ""), "arm.namespace")
    described = read_graph_file(graph_path())
    graph = words.get("graph", "sim" if robot.name.endswith("_sim") else "arm")
    if graph not in described.graphs:
        raise UnknownNameError("arm.graph", graph, described.graphs)
    if "tool" in words and "urdf" not in words:
        raise ConfigError("arm.tool is given without arm.urdf")
    kinematics = _kinematics(robot, words)
    os.environ |= node_environment(described.environment, described.graphs[graph].environment)
    arm = RosArm(robot, namespace, kinematics)
    try:
        arm.wait()
    except BaseException:
        arm.close()
        raise
    return arm


def _kinematics(robot: Deployment, words: Mapping[str, str]) -> Kinematics | None:
    if "urdf" not in words:
        return None
    from emu_sim.urdf import read_urdf  # only here: it needs the simulator

    return read_urdf(Path(words["urdf"]), robot.joints.names, words.get("tool", ""))


class RosArm:
    """A node that is spun in a thread. It is armed by the graph's gate, which a person arms by *Resume*, or elsewhere.

    Its position is that of the graph: joints [rad], then the gripper's opening.
    """

    is_simulated = False

    def __init__(self, robot: Deployment, namespace: str, kinematics: Kinematics | None) -> None:
        """namespace: that of the graph. kinematics: None to drive joint by joint."""
        self.name, self._robot, self.kinematics = robot.name, robot, kinematics
        self.limits, self.layout = robot.limits, _layout(robot)
        self.cameras: Mapping[str, tuple[int, int]] = {}
        self.home: Floats = np.zeros(robot.n_joints)
        self._reader, self._lock = JointReader(robot), threading.Lock()
        self._state: Seen | None = None
        self._gate: Seen | None = None
        self._pictures: dict[str, Seen] = {}
        self._troubles: dict[str, str] = {}
        self._session, self._sequence = time.time_ns(), 0
        self._drove = False
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = node = Node("teleop_page", context=self._context, namespace=namespace, enable_rosout=False)
        self._chunks = node.create_publisher(ActionChunk, topics.ACTION_CHUNK, qos.CHUNKS)
        self._statuses = node.create_publisher(PolicyStatus, topics.POLICY_STATUS, qos.STATUS)
        self._deadman = node.create_publisher(Bool, topics.DEADMAN, qos.DEADMAN)
        self._arming = node.create_client(SetBool, topics.ARM)
        self._resetting = node.create_client(Trigger, topics.RESET_ESTOP)
        node.create_subscription(SafetyState, topics.SAFETY_STATE, self._on_gate, qos.LATCHED)
        for topic in robot.joint_state_topics:
            node.create_subscription(JointState, topic, self._on_joints, qos.JOINT_STATES_IN)
        for camera, topic in robot.cameras.items():
            kind = CompressedImage if is_compressed(topic) else Image
            node.create_subscription(kind, topic, partial(self._on_picture, camera), qos.CAMERA)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, name="ros", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until everything has been heard once. Raises `SystemSetupError` naming what is missing."""
        ends = time.monotonic() + FIRST_S
        while missing := self._missing():
            if time.monotonic() > ends:
                space = self._node.get_namespace()
                raise SystemSetupError(f"{self.name} in {space}: nothing heard within {FIRST_S:g} s of {missing}")
            time.sleep(0.02)
        with self._lock:
            assert self._state is not None
            self.home = self._state.what[: self._robot.n_joints].copy()
            self.cameras = {name: self._pictures[name].what.shape[:2] for name in self._robot.cameras}

    def _missing(self) -> str:
        with self._lock:
            cameras = [f"camera {name} ({t})" for name, t in self._robot.cameras.items() if name not in self._pictures]
            joints = [] if self._state else [f"the joint states ({', '.join(self._robot.joint_state_topics)})"]
            gate = [] if self._gate else [f"the safety gate ({topics.SAFETY_STATE}); `emu-robot bringup` starts it"]
        return ", ".join((*cameras, *joints, *gate))

    # -- what a session asks

    def state(self, now: float) -> tuple[Floats, float] | None:
        """The last position (A,), and its age [s]; None before the first."""
        with self._lock:
            return None if self._state is None else (self._state.what, max(now - self._state.at, 0.0))

    def pictures(self) -> tuple[Mapping[str, Picture], float] | None:
        """The newest picture of each camera, and the time of the oldest of them [s]."""
        with self._lock:
            found = dict(self._pictures)
        return {name: found[name].what for name in self.cameras}, min(seen.at for seen in found.values())

    def command(self, position: Floats, now: float) -> None:
        """Nothing: the graph's gate commands the robot, by what it was told in `drive`."""

    def drive(self, actions: Floats | None, *, began_s: float, dt: float) -> None:
        """Send the wanted positions, deadman and heartbeat to the gate; after the last ones, that it is over, once: a
        policy may drive then."""
        if actions is None:
            if self._drove:
                self._deadman.publish(Bool(data=False))
                self._say("")
            self._drove = False
            return
        self._drove = True
        self._sequence += 1
        chunk = ActionChunk(
            session=self._session,
            sequence=self._sequence,
            source="teleop",
            dt=dt,
            names=list(self._robot.dimension_names),
            actions=from_actions(actions),
        )
        chunk.header.stamp = (self._node.get_clock().now() - Duration(seconds=began_s)).to_msg()
        self._deadman.publish(Bool(data=True))
        self._chunks.publish(chunk)
        self._say(INSTRUCTION)

    @property
    def is_gate_armed(self) -> bool:
        """Whether the graph's gate would follow."""
        with self._lock:
            return self._gate is not None and GateState(self._gate.what.state).is_armed and not self._is_silent()

    def ask_armed(self, wanted: bool) -> None:
        """Ask the gate to be armed, after a fault or an emergency stop to be reset, or to brake and be disarmed."""
        with self._lock:
            state = GateState(self._gate.what.state) if self._gate else GateState.DISARMED
        resets = wanted and state in (GateState.FAULT, GateState.ESTOP)
        client, request = (
            (self._resetting, Trigger.Request()) if resets else (self._arming, SetBool.Request(data=wanted))
        )
        if not client.service_is_ready():
            self._troubles["gate"] = f"the safety gate does not serve {client.srv_name}"
            return
        client.call_async(request).add_done_callback(self._on_answer)

    @property
    def lost(self) -> str:
        """Why the graph's gate would not follow; empty while it would."""
        with self._lock:
            if self._gate is None or self._is_silent():
                return "the graph's safety gate is silent"
            said = self._gate.what
            if GateState(said.state).is_armed:
                return ""
            return f"the graph's safety gate: {said.state}" + (f", {said.reason}" if said.reason else "")

    @property
    def trouble(self) -> str:
        """What the gate refused, and joint states and pictures that cannot be used."""
        return "; ".join(words for words in list(self._troubles.values()) if words)

    def close(self) -> None:
        """Let go of the deadman, and leave the graph. The gate holds."""
        self.drive(None, began_s=0.0, dt=0.0)
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    # -- in

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def _on_gate(self, message: SafetyState) -> None:
        with self._lock:
            self._gate = Seen(what=message, at=time.monotonic())

    def _on_joints(self, message: JointState) -> None:
        now, stamp = time.monotonic(), message.header.stamp
        try:
            position = self._reader.read(list(message.name), list(message.position))
        except EmuRobotError as error:
            self._troubles["joints"] = f"joint states: {error}"
            return
        self._troubles["joints"] = ""
        if position is not None:
            age = max(1e-9 * self._node.get_clock().now().nanoseconds - seconds(stamp), 0.0) if stamp.sec else 0.0
            with self._lock:
                self._state = Seen(what=position, at=now - age)

    def _on_picture(self, camera: str, message: Image | CompressedImage) -> None:
        try:
            picture = to_image(message)
            if self.cameras and picture.shape[:2] != self.cameras[camera]:
                raise ConfigError(f"its pictures are now {picture.shape[0]} x {picture.shape[1]} px")
        except EmuRobotError as error:
            self._troubles[camera] = f"camera {camera}: {error}"
            return
        self._troubles[camera] = ""
        with self._lock:
            self._pictures[camera] = Seen(what=picture, at=time.monotonic())

    def _on_answer(self, future: Any) -> None:
        answer = future.result()
        self._troubles["gate"] = "" if answer.success else f"the graph's safety gate: {answer.message}"

    def _is_silent(self) -> bool:
        return self._gate is not None and time.monotonic() - self._gate.at > SILENT_S

    def _say(self, instruction: str) -> None:
        status = PolicyStatus(session=self._session, instruction=instruction, progress=math.nan, chunks=self._sequence)
        status.header.stamp = self._node.get_clock().now().to_msg()
        self._statuses.publish(status)


def _layout(robot: Deployment) -> RobotLayout:
    """Names and units of a recording: LeRobot's ending `.pos`."""
    names, n = tuple(f"{name}.pos" for name in robot.dimension_names), len(robot.dimension_names) - robot.n_joints
    units = (*["rad"] * robot.n_joints, *["1"] * n)
    return RobotLayout(
        state_names=names,
        action_names=names,
        n_grippers=n,
        relative_dims=robot.n_joints,
        state_units=units,
        action_units=units,
        action_kind=ActionKind.TARGET,
        gripper_open=1.0 if n else None,
        gripper_closed=0.0 if n else None,
    )
