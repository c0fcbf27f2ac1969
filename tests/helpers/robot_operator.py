"""Policy and operator of any robot, in one node: chunks, heartbeats and services of the gate; it moves no arm."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from emu_robot_interfaces.msg import ActionChunk, PolicyStatus, SafetyState
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from emu_robot.core import Floats
from emu_robot.robots.deployment import Deployment
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import from_actions, stamp_of

DT = 0.05
"""Between the actions of a chunk [s]."""
CHUNK_PERIOD_S, CHUNK_S = 0.15, 0.5
"""Between two chunks of one motion, and how long each is [s]."""

type Path = Callable[[float], Floats]
"""Where to be (A,) so many seconds after a motion began: joints [rad], the gripper's opening last."""


class Operator:
    """Heartbeats go out while `alive`. state, reason: what the gate said last; states: all it said, (state, reason)."""

    def __init__(self, robot: Deployment, namespace: str = "") -> None:
        self.robot, self.alive, self.state, self.reason = robot, True, "", ""
        self.states: list[tuple[str, str]] = []
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = Node("operator", namespace=namespace, context=self._context, enable_rosout=False)
        self._session, self._sequence = time.time_ns(), 0
        self._chunks = self.node.create_publisher(ActionChunk, topics.ACTION_CHUNK, qos.CHUNKS)
        self._status = self.node.create_publisher(PolicyStatus, topics.POLICY_STATUS, qos.STATUS)
        self.node.create_subscription(SafetyState, topics.SAFETY_STATE, self._on_state, qos.LATCHED)
        self._arm = self.node.create_client(SetBool, topics.ARM)
        self._triggers = {name: self.node.create_client(Trigger, name) for name in (topics.ESTOP, topics.RESET_ESTOP)}
        self.node.create_timer(0.03, self._beat)
        self.executor = SingleThreadedExecutor(context=self._context)
        self.executor.add_node(self.node)
        self._thread = threading.Thread(target=self.executor.spin, daemon=True)
        self._thread.start()

    def arm(self, on: bool = True) -> Any:
        return self._call(self._arm, SetBool.Request(data=on))

    def estop(self) -> Any:
        return self._call(self._triggers[topics.ESTOP], Trigger.Request())

    def reset(self) -> Any:
        return self._call(self._triggers[topics.RESET_ESTOP], Trigger.Request())

    def send(self, path: Path, began: float, seconds: float) -> None:
        """A chunk from now on, so many seconds long, of a motion that began at a steady time."""
        elapsed, self._sequence = time.monotonic() - began, self._sequence + 1
        moments = elapsed + DT * (np.arange(max(round(seconds / DT), 2)) + 0.5)  # an action's place is amid its time
        message = ActionChunk(
            session=self._session, sequence=self._sequence, source="policy", dt=DT,
            names=list(self.robot.dimension_names), actions=from_actions(np.stack([path(float(t)) for t in moments])),
        )  # fmt: skip
        message.header.stamp = stamp_of(1e-9 * self.node.get_clock().now().nanoseconds)
        self._chunks.publish(message)

    def begin(self, path: Path, seconds: float) -> float:
        """One chunk so many seconds long, again until the gate has one; the steady time at which the motion began."""
        began = time.monotonic()
        while self.state != "tracking":
            assert time.monotonic() - began < 5, f"the gate is {self.state} ({self.reason}) and takes no chunk"
            self.send(path, began, seconds)
            time.sleep(CHUNK_PERIOD_S)
        return began

    def follow(self, path: Path, seconds: float) -> float:
        """Overlapping chunks for so long, as a policy sends them; the steady time at which the motion began."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            self.send(path, began, CHUNK_S)
            time.sleep(CHUNK_PERIOD_S)
        return began

    def goal(self, client: ActionClient, goal: Any) -> Any:
        """The handle of an action's goal, once its server has answered."""
        return self._settled(self._within(client.send_goal_async, goal), "an answer to a goal")

    def result(self, handle: Any) -> Any:
        """Status and result of a goal, once it has ended."""
        return self._settled(self._within(handle.get_result_async), "a goal's result")

    def cancel(self, handle: Any) -> Any:
        return self._settled(self._within(handle.cancel_goal_async), "an answer to a cancellation")

    def close(self) -> None:
        self.executor.shutdown()
        self._thread.join(5)
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _call(self, client: Any, request: Any) -> Any:
        assert client.wait_for_service(20.0), f"{client.srv_name} is not there"
        return self._settled(client.call_async(request), f"an answer of {client.srv_name}")

    def _within(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Called by the thread that takes the answers: rclpy loses one that comes before its request is noted."""
        return self._settled(self.executor.create_task(function, *arguments), "the executor")

    def _settled(self, future: Any, what: str) -> Any:
        until = time.monotonic() + 20
        while not future.done():
            assert time.monotonic() < until, f"waited 20 s for {what}"
            time.sleep(0.002)
        return future.result()

    def _on_state(self, message: SafetyState) -> None:
        self.state, self.reason = message.state, message.reason
        if not self.states or self.states[-1] != (message.state, message.reason):
            self.states.append((message.state, message.reason))

    def _beat(self) -> None:
        if self.alive:
            self._status.publish(PolicyStatus(session=self._session, instruction="test"))
