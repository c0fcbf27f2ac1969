"""Plain calls to a running graph, for operators, demonstrations and benchmarks."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import rclpy
from emu_robot_interfaces.action import ExecuteTask, RecordEpisode
from emu_robot_interfaces.msg import EpisodeState, SafetyState
from emu_robot_interfaces.srv import ResetEpisode, SetTask
from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from emu_robot.errors import EmuRobotError
from emu_robot.robots.ros_names import read_namespace
from emu_robot_ros import qos, topics

ANSWER_S = 20.0
"""Longest wait for an answer to a call."""
PASSING = ("joint state", "no safety gate is there")
"""Words of temporary refusals, for instance of nodes that have just started."""
SETTLE_S = 0.2
"""Time between a scene's reset and arming [s]: a gate that has not seen the arm leap would hold the old place."""


class GraphError(EmuRobotError):
    """A node is missing, does not answer, or refuses; the message says which and why."""


class TaskHandle:
    """A task that the planner executes."""

    def __init__(self, client: "GraphClient", goal: Any, started: float) -> None:
        self._client, self._goal, self._result = client, goal, client.sent(goal.get_result_async)
        self.started = started
        """Start on the steady clock [s]."""

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._result.done()

    def cancel(self) -> None:
        """Ask for its end, without waiting for it."""
        self._client.wait(self._client.sent(self._goal.cancel_goal_async), "execute_task to be canceled")

    def result(self, timeout: float) -> ExecuteTask.Result:
        """Wait for the result. Raises `GraphError` after `timeout` [s]."""
        return self._client.wait(self._result, "the task to end", timeout).result


class GraphClient:
    """A node with its own context, spun in a thread. Use it as a context manager, or `close` it."""

    def __init__(self, name: str = "client", namespace: str = "") -> None:
        """namespace: that of the graph, such as "left"; empty for the root. Raises `ConfigError` for a wrong one."""
        namespace = read_namespace(namespace)
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node(name, context=self.context, namespace=namespace)
        self.gate: SafetyState | None = None
        """Latest state of the safety gate; None before the first."""
        self.episode: EpisodeState | None = None
        """Latest state of the simulated episode; None before the first."""
        self.feedback: list[tuple[float, ExecuteTask.Feedback]] = []
        """(time since the task's start [s], feedback) of the last task."""
        node = self.node
        node.create_subscription(SafetyState, topics.SAFETY_STATE, self._on_gate, qos.LATCHED)
        node.create_subscription(EpisodeState, topics.EPISODE_STATE, self._on_episode, qos.LATCHED)
        self._arm = node.create_client(SetBool, topics.ARM)
        self._estop = node.create_client(Trigger, topics.ESTOP)
        self._reset_estop = node.create_client(Trigger, topics.RESET_ESTOP)
        self._reset_episode = node.create_client(ResetEpisode, topics.RESET_EPISODE)
        self._set_task = node.create_client(SetTask, topics.SET_TASK)
        self._execute = ActionClient(node, ExecuteTask, topics.EXECUTE_TASK)
        self._record = ActionClient(node, RecordEpisode, topics.RECORD_EPISODE)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._thread.join(5)
        for action in (self._execute, self._record):
            action.destroy()  # the node does not do it, and would stay in the graph
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def wait_for_graph(self, patience: float = 120.0) -> None:
        """Wait for gate, simulation, planner and policy. Raises `GraphError`."""
        self.wait_until(lambda: self.gate is not None, "the safety gate", patience)
        self.wait_until(lambda: self.episode is not None, "the simulation", patience)
        self.wait_until(self._execute.server_is_ready, "the planner", patience)
        self.wait_until(lambda: self.node.count_publishers(topics.POLICY_STATUS), "the policy", patience)

    # -- the gate

    def arm(self, armed: bool = True, patience: float = ANSWER_S) -> None:
        """Arm the gate, or disarm it. Retries after temporary refusals, for instance before the first joint state."""
        self._until_accepted(lambda: self._call(self._arm, SetBool.Request(data=armed)), "arm", patience)

    def disarm(self) -> None:
        """Make the gate give no more commands."""
        self.arm(False)

    def estop(self) -> None:
        """Emergency stop."""
        self._call(self._estop, Trigger.Request())

    def reset_estop(self) -> None:
        """Leave a fault or an emergency stop."""
        self._until_accepted(lambda: self._call(self._reset_estop, Trigger.Request()), "reset_estop", ANSWER_S)

    # -- episodes and tasks

    def reset_episode(self, seed: int, families: str = "", split: str = "", patience: float = 60.0) -> str:
        """Reset the simulation to a new scene and return its instruction. Disarms the gate before, arms it after."""
        self.disarm()
        request = ResetEpisode.Request(seed=seed, families=families, split=split)
        answer = self._call(self._reset_episode, request, patience)
        if not answer.success:
            raise GraphError(f"reset_episode refused: {answer.message}")
        self.wait_until(lambda: self.episode is not None and self.episode.seed == seed, "the episode to begin")
        time.sleep(SETTLE_S)
        self.arm()
        return answer.instruction

    def set_task(self, instruction: str) -> None:
        """Change to another task at once; an empty instruction stops. Raises `GraphError` if it is refused.

        Waits for a planner that has not heard of the gate yet.
        """
        request = SetTask.Request(instruction=instruction)
        self._until_accepted(lambda: self._call(self._set_task, request), "set_task", ANSWER_S)

    def execute(self, instruction: str, time_limit: float = 0.0, patience: float = 60.0) -> TaskHandle:
        """Begin a task. Raises `GraphError` if no planner is there within `patience` [s], or it refuses the task."""
        if not self._execute.wait_for_server(patience):
            raise GraphError(f"no planner within {patience:g} s: no node serves execute_task")
        self.feedback.clear()
        started = time.monotonic()

        def take(message: Any) -> None:
            self.feedback.append((time.monotonic() - started, message.feedback))

        goal = ExecuteTask.Goal(instruction=instruction, time_limit=float(time_limit))
        accepted = self.wait(self.sent(self._execute.send_goal_async, goal, feedback_callback=take), "execute_task")
        if not accepted.accepted:
            raise GraphError("the planner refuses the task; its log says why")
        return TaskHandle(self, accepted, started)

    @contextmanager
    def recording(self, task: str, patience: float = 60.0) -> Iterator[list[RecordEpisode.Result]]:
        """Record the graph during the block; afterwards the list holds the result.

        Raises `GraphError` if no recorder is there within `patience` [s], or it refuses.
        """
        if not self._record.wait_for_server(patience):
            raise GraphError(f"no recorder within {patience:g} s: no node serves record_episode")
        goal = self.wait(self.sent(self._record.send_goal_async, RecordEpisode.Goal(task=task)), "record_episode")
        if not goal.accepted:
            raise GraphError("the recorder refuses; its log says why")
        ended: list[RecordEpisode.Result] = []
        try:
            yield ended
        finally:
            self.wait(self.sent(goal.cancel_goal_async), "the recording to be ended")
            ended.append(self.wait(self.sent(goal.get_result_async), "the recording to be closed").result)

    # -- waiting

    def sent(self, request: Callable[..., Future], *arguments: Any, **more: Any) -> Future:
        """The future of an action's request, sent by the thread that takes the answers.

        If another thread sends it, rclpy's action clients may lose an answer that comes before they noted the request.
        """
        return self.wait(self._executor.create_task(request, *arguments, **more), "a request to be sent")

    def wait(self, future: Future, what: str, timeout: float = ANSWER_S) -> Any:
        """A future's result. Raises `GraphError` after `timeout` [s]."""
        self.wait_until(future.done, what, timeout)
        return future.result()

    def wait_until(self, condition: Callable[[], object], what: str, timeout: float = ANSWER_S) -> float:
        """Wait for a condition and return how long it took [s]. Raises `GraphError` after `timeout` [s]."""
        started = time.monotonic()
        while not condition():
            if time.monotonic() - started > timeout:
                raise GraphError(f"waited {timeout:g} s for {what}")
            time.sleep(0.002)
        return time.monotonic() - started

    def _call(self, client: Client, request: Any, patience: float = ANSWER_S) -> Any:
        if not client.wait_for_service(patience):
            raise GraphError(f"no {client.srv_name} within {patience:g} s: is its node running?")
        return self.wait(client.call_async(request), f"{client.srv_name} to answer")

    def _until_accepted(self, call: Callable[[], Any], what: str, patience: float) -> None:
        until = time.monotonic() + patience
        while not (answer := call()).success:
            if time.monotonic() > until or not any(words in answer.message for words in PASSING):
                raise GraphError(f"{what} refused: {answer.message}")
            time.sleep(0.1)

    def _on_gate(self, message: SafetyState) -> None:
        self.gate = message

    def _on_episode(self, message: EpisodeState) -> None:
        self.episode = message
