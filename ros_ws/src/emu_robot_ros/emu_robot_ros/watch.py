"""Listens to a running graph and shows on a page what its policy thinks. Commands nothing: it has subscriptions alone.

python -m emu_robot_ros.watch --robot=panda_sim [--namespace=left] [--host=127.0.0.1] [--port=8092] [--token=...]
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import rclpy
from emu_robot_interfaces.msg import ActionChunk, EpisodeState, PlannerStatus, PolicyStatus, SafetyState, Subgoal
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image, JointState

from emu_robot.core import PlanStep
from emu_robot.errors import EmuRobotError
from emu_robot.observation.camera_messages import is_compressed
from emu_robot.observation.joint_states import JointReader
from emu_robot.planner.config import ReplanConfig
from emu_robot.robots.deployment import Deployment, read_deployment
from emu_robot.robots.ros_names import read_namespace
from emu_robot.shared.interrupts import StopRequest, stop_request
from emu_robot.watch.board import Board
from emu_robot.watch.page import served
from emu_robot.watch.thought import Ending, Gate
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import seconds, to_actions, to_image
from emu_robot_ros.recorded_topics import COMMANDS
from emu_robot_ros.running import LOOK_S

PICTURES_EVERY_S, STATES_EVERY_S = 0.1, 0.05
"""Least time between two pictures of a camera, and two joint states, that are shown [s]."""
SILENT_S = 2.0
"""Silence of a node that is told [s]; all that are watched speak twice a second at least."""
LONGEST_AGE_S = 5.0
"""Age of a chunk's picture beyond which its clock counts as another one [s]."""
LISTENING = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
"""A slow page must never hold up a publisher."""


class WatchNode(Node):
    """Tells a board what it hears. Times are those of the steady clock [s]."""

    def __init__(self, robot: Deployment, board: Board, **options: Any) -> None:
        quiet = Parameter("start_type_description_service", value=False)
        super().__init__(
            "watch", enable_rosout=False, start_parameter_services=False, parameter_overrides=[quiet], **options
        )
        self._robot, self._board, self._joints = robot, board, JointReader(robot)
        self._reached_at = ReplanConfig().progress_threshold
        self._task: tuple[int, str] | None = None
        self._subgoal = (0, 0)
        self._progress = math.nan
        self._last: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._silent: set[str] = set()
        self._succeeded: tuple[int, bool] = (0, False)
        ours: dict[str, tuple[Any, Callable[[Any], None], QoSProfile]] = {
            topics.SUBGOAL: (Subgoal, self._on_subgoal, qos.LATCHED),
            topics.SAFETY_STATE: (SafetyState, self._on_gate, qos.LATCHED),
            topics.PLANNER_STATUS: (PlannerStatus, self._on_planner, qos.STATUS),
            topics.POLICY_STATUS: (PolicyStatus, self._on_policy, qos.STATUS),
            topics.EPISODE_STATE: (EpisodeState, self._on_episode, qos.STATUS),
            topics.ACTION_CHUNK: (ActionChunk, self._on_chunk, LISTENING),
            robot.command_topic: (COMMANDS[robot.kind], self._on_command, LISTENING),
        }
        for name, (kind, take, profile) in ours.items():
            self.create_subscription(kind, name, take, profile)
        for name in robot.joint_state_topics:
            self.create_subscription(JointState, name, self._on_joints, qos.JOINT_STATES_IN)
        for camera, name in robot.cameras.items():
            kind = CompressedImage if is_compressed(name) else Image
            self.create_subscription(kind, name, partial(self._on_picture, camera), qos.CAMERA)
        self.create_timer(0.2, self._on_time, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # -- the plan

    def _on_subgoal(self, message: Subgoal) -> None:
        now, board = time.monotonic(), self._board
        self._end_step(now)
        if not message.instruction:
            if self._task is not None:
                board.rest(now, "the planner stopped")
            self._task = None
            return
        if self._task != (message.session, message.instruction):
            self._task = (message.session, message.instruction)
            board.begin(message.instruction, now)
        self._subgoal = (message.session, message.sequence)
        if not message.subtask:
            board.complete(now)
            return
        image = to_image(message.image) if len(message.image.data) else None
        board.plan(PlanStep(subtask=message.subtask, subgoal=image), now)

    def _end_step(self, now: float) -> None:
        """The planner does not say why it goes on: its usual threshold tells."""
        if self._progress >= self._reached_at:
            self._board.end_step(Ending.REACHED, now)
        self._progress = math.nan

    def _on_planner(self, message: PlannerStatus) -> None:
        now = self._hear("planner")
        if message.planning and message.planning != self._last.get("planning"):
            self._last["planning"] = message.planning
            self._board.took("plan", message.planning, now)

    def _on_policy(self, message: PolicyStatus) -> None:
        now = self._hear("policy")
        if message.chunks == self._last.get("chunks") or not message.instruction:
            return
        self._last["chunks"] = message.chunks
        if message.inference:
            self._board.took("chunk", message.inference, now)
            self._board.took("age of the oldest picture as it began", message.observation_age, now)
        pursued = (message.subgoal_session, message.subgoal_sequence)
        if pursued == self._subgoal and math.isfinite(message.progress):
            self._progress = message.progress
            self._board.progress(message.progress, now)

    def _on_episode(self, message: EpisodeState) -> None:
        now = time.monotonic()
        self._board.judge(message.subtasks_done, message.n_subtasks, now)
        if (message.seed, message.success) != self._succeeded:
            self._succeeded = (message.seed, message.success)
            if message.success:
                self._board.say("success, by the simulation", now)

    # -- motion

    def _on_chunk(self, message: ActionChunk) -> None:
        now = time.monotonic()
        try:
            actions = to_actions(message.actions, len(message.names))
        except EmuRobotError as error:
            self._board.say(f"a chunk cannot be read: {error}", now)
            return
        if not len(actions) or not message.dt > 0:
            self._board.say("a chunk without actions, or without time between them", now)
            return
        age = 1e-9 * self.get_clock().now().nanoseconds - seconds(message.header.stamp)
        age = age if 0 <= age <= LONGEST_AGE_S else 0.0
        if age:
            self._board.took("picture taken to chunk here", age, now)
        self._board.play(list(message.names), actions, message.dt, now - age, now)

    def _on_command(self, message: Any) -> None:
        now, before = time.monotonic(), self._last.get("command", -math.inf)
        self._last["command"] = now
        if now - before < 1.0:  # a longer gap means that the gate was disarmed
            self._board.took("period of commands", now - before, now)

    def _on_gate(self, message: SafetyState) -> None:
        now = self._hear("gate")
        self._board.gate(Gate(state=message.state, reason=message.reason), now)

    def _on_joints(self, message: JointState) -> None:
        try:
            position = self._joints.read(list(message.name), list(message.position))
        except EmuRobotError:  # the gate judges and tells it
            return
        if position is not None and self._is_due("joints", STATES_EVERY_S):
            self._board.move(position, time.monotonic())

    def _on_picture(self, camera: str, message: Image | CompressedImage) -> None:
        if not self._is_due(camera, PICTURES_EVERY_S):
            return
        now = time.monotonic()
        try:
            self._board.see({camera: to_image(message)}, now)
        except EmuRobotError as error:
            if self._is_due(f"{camera}, told", SILENT_S):
                self._board.say(f"camera {camera}: {error}", now)

    # -- time

    def _is_due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now - self._last.get(what, -math.inf) < every_s:
            return False
        self._last[what] = now
        return True

    def _hear(self, node: str) -> float:
        """A node is alive. Returns the time."""
        self._heard[node] = now = time.monotonic()
        if node in self._silent:
            self._silent.remove(node)
            self._board.say(f"{node}: is back", now)
        return now

    def _on_time(self) -> None:
        now = time.monotonic()
        self._board.tick(now)
        for node, at in self._heard.items():
            if now - at > SILENT_S and node not in self._silent:
                self._silent.add(node)
                self._board.say(f"{node}: silent for {SILENT_S:g} s", now)
                if node == "gate":
                    self._board.gate(Gate(state="", reason="the gate is silent"), now)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robot", default="panda_sim", help="name or YAML file of the deployment")
    parser.add_argument("--namespace", default="", help="namespace of the graph")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8092)
    parser.add_argument("--token", default="", help='word in the address; "new" makes one')
    wanted = parser.parse_args()
    try:
        with stop_request("the page closes") as stop:
            run(wanted.robot, wanted.namespace, host=wanted.host, port=wanted.port, token=wanted.token, stop=stop)
    except EmuRobotError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(robot: str, namespace: str, *, host: str, port: int, token: str, stop: StopRequest) -> None:
    """Serve the page of a graph until a signal. Raises `EmuRobotError`.

    The signal is looked for between callbacks: an exception that a handler raises can be lost within rclpy.
    """
    deployment, space = read_deployment(robot), read_namespace(namespace)
    where = f"ROS 2 graph {space or '/'}, {deployment.name}"
    board = Board(where, planner_camera=deployment.planner_camera, foresees=False)
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = WatchNode(deployment, board, context=context, namespace=space)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        with served(board, host=host, port=port, token=token) as url:
            print(f"open {url}", flush=True)
            while stop.number is None:
                executor.spin_once(timeout_sec=LOOK_S)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


if __name__ == "__main__":
    sys.exit(main())
