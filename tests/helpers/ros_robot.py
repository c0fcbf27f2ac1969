"""A peer for the nodes under test: an arm that does as it is told, and whoever else a test needs."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from emu_robot_interfaces.msg import ActionChunk, PolicyStatus, SafetyState
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from emu_robot.robots.deployment import read_deployment
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import from_actions

ROBOT = read_deployment("panda_sim")
START = np.array([0.0, -0.55, 0.0, -2.65, 0.0, 2.10, 0.785, 1.0])


class Peer:
    """Arm, policy and operator in one node, with a context of its own, spun in a thread.

    Publishes joint states at 100 Hz, where the last command put the arm, while `senses`, stamped `lag` seconds late and
    with what `garble` does to them; heartbeats while `alive`, idle ones with an empty `instruction`. With `simulated`
    time, its own clock is the graph's, `ahead` seconds before the machine's. All of it lies in `namespace`.
    commands: (received at, positions of the arm); velocities: of the same commands;
    states: what else the gate said, stated_at: when;
    idled_at: when the first idle heartbeat was sent, 0 before it.
    """

    def __init__(self, *, simulated: bool = False, namespace: str = "") -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node("peer", context=self.context, namespace=namespace)
        self.lag, self.ahead = 0.0, 0.0
        self.garble: Callable[[JointState], None] | None = None
        self.position, self.senses, self.alive, self.session, self.sequence = START.copy(), True, True, 1, 0
        self.instruction = "test"
        self.commands: list[tuple[float, np.ndarray]] = []
        self.velocities: list[np.ndarray] = []
        self.states: list[SafetyState] = []
        self.stated_at: list[float] = []
        self.idled_at = 0.0
        node = self.node
        self._joints = node.create_publisher(JointState, ROBOT.joint_states, qos.JOINT_STATES_OUT)
        self._chunks = node.create_publisher(ActionChunk, topics.ACTION_CHUNK, qos.CHUNKS)
        self._status = node.create_publisher(PolicyStatus, topics.POLICY_STATUS, qos.STATUS)
        node.create_subscription(JointTrajectory, ROBOT.command_topic, self._on_command, qos.COMMANDS)
        node.create_subscription(SafetyState, topics.SAFETY_STATE, self._on_safety_state, qos.LATCHED)
        self._arm = node.create_client(SetBool, topics.ARM)
        self._estop = node.create_client(Trigger, topics.ESTOP)
        self._reset = node.create_client(Trigger, topics.RESET_ESTOP)
        self._transition = node.create_client(ChangeState, "safety/change_state")
        node.create_timer(0.01, self._sense)
        node.create_timer(0.03, self._beat)
        if simulated:
            self._clock = node.create_publisher(Clock, "/clock", 10)
            node.create_timer(0.005, lambda: self._clock.publish(Clock(clock=self._stamp())))
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    @property
    def state(self) -> str:
        """What the gate said last."""
        return self.states[-1].state if self.states else ""

    def arm(self, on: bool = True) -> Any:
        return self._call(self._arm, SetBool.Request(data=on))

    def estop(self) -> Any:
        return self._call(self._estop, Trigger.Request())

    def reset(self) -> Any:
        return self._call(self._reset, Trigger.Request())

    def transition(self, number: int) -> Any:
        """Of the gate's life cycle, by its number in lifecycle_msgs/msg/Transition."""
        return self._call(self._transition, ChangeState.Request(transition=Transition(id=number)))

    def send(self, goal: float = 0.1, n: int = 20, age: float = 0.0, **changes: Any) -> None:
        """A chunk that turns the first joint on by `goal` [rad]; its observation `age` seconds old."""
        self.sequence += 1
        actions = np.repeat(self.position[None], n, axis=0)
        actions[:, 0] += np.linspace(0, goal, n)
        message = ActionChunk(
            session=self.session, sequence=self.sequence, source="policy", dt=0.05,
            names=list(ROBOT.dimension_names), actions=from_actions(actions),
        )  # fmt: skip
        message.header.stamp = self._stamp(-age)
        for name, value in changes.items():
            setattr(message, name, value)
        self._chunks.publish(message)

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(5)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def _call(self, client: Any, request: Any) -> Any:
        assert client.wait_for_service(20.0), f"{client.srv_name} is not there"
        future, until = client.call_async(request), time.monotonic() + 20
        while not future.done():
            assert time.monotonic() < until, f"{client.srv_name} does not answer"
            time.sleep(0.002)
        return future.result()

    def _on_command(self, message: JointTrajectory) -> None:
        point = next(iter(message.points))
        position = np.array(point.positions)
        self.commands.append((time.monotonic(), position))
        self.velocities.append(np.array(point.velocities))
        self.position[: len(position)] = position

    def _on_safety_state(self, message: SafetyState) -> None:
        if not self.states or (message.state, message.reason) != (self.states[-1].state, self.states[-1].reason):
            self.stated_at.append(time.monotonic())
            self.states.append(message)

    def _sense(self) -> None:
        if self.senses:
            message = JointState(name=list(ROBOT.dimension_names), position=self.position.tolist())
            message.header.stamp = self._stamp(-self.lag)
            if self.garble:
                self.garble(message)
            self._joints.publish(message)

    def _stamp(self, shift: float = 0.0) -> Time:
        nanoseconds = self.node.get_clock().now().nanoseconds + int(1e9 * (self.ahead + shift))
        return Time(sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000)

    def _beat(self) -> None:
        if self.alive:
            if not self.instruction and not self.idled_at:
                self.idled_at = time.monotonic()
            self._status.publish(PolicyStatus(session=self.session, instruction=self.instruction))
