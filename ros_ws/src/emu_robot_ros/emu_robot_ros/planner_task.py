"""The planner node's record of a task, and the rules that end it while it waits. Knows no images and no plans."""

import queue
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from emu_robot_interfaces.action import ExecuteTask
from emu_robot_interfaces.msg import Subgoal
from rclpy.action.server import ServerGoalHandle
from rclpy.task import Future

from emu_robot.control.safety import GateState
from emu_robot.planner.task_execution import TaskExecution

GATE_TIMEOUT_S, POLICY_TIMEOUT_S = 3.0, 3.0
"""Silence of the gate, and of the policy, after which a task is given up [s]."""
UNARMED_S = 0.5
"""How long the gate may be unarmed before a task is given up [s]: its message may be late."""


class State(StrEnum):
    """State of the planner; the values are the words of its status."""

    IDLE = "idle"
    PLANNING = "planning"
    WAITING = "waiting"
    COMPLETE = "complete"


class Ended(Exception):
    """A task is over without success; the message says why."""


class Progress(NamedTuple):
    """The policy's report of one chunk."""

    sequence: int
    """Number of the subgoal that the chunk pursued."""
    progress: float
    """Progress through it, in [0, 1]."""


@dataclass(kw_only=True)
class Task:
    """One task. Times are on the steady clock [s]."""

    execution: TaskExecution
    """Chooses its steps."""
    until: float
    """When its time is up."""
    goal: ServerGoalHandle | None = None
    """The client's goal; None for a task of set_task."""
    started: float = field(default_factory=time.monotonic)
    """When it began."""
    finished: Future = field(default_factory=Future)
    """Gets its result."""
    over: bool = False
    """Whether it has its result; nothing follows then."""
    willing_at: float = field(default_factory=time.monotonic)
    """When the gate last let the robot move."""
    heard: "queue.SimpleQueue[Progress]" = field(default_factory=queue.SimpleQueue)
    """Reports of the policy that the task has not read yet."""

    @property
    def reason_to_stop(self) -> str:
        """Why its client or its time limit ends it; empty while they do not."""
        if self.goal is not None and self.goal.is_cancel_requested:
            return "canceled"
        return "time is up" if time.monotonic() > self.until else ""

    def result(self, message: str, *, success: bool) -> ExecuteTask.Result:
        """The result for the client. message: why the task is over."""
        subtasks, duration = list(self.execution.subtasks), time.monotonic() - self.started
        return ExecuteTask.Result(success=success, message=message, subtasks=subtasks, duration=duration)

    def feed_back(self, progress: float, subgoal: Subgoal | None) -> None:
        """Tell the client, if there is one, of the present step. subgoal: its subgoal, if that is new."""
        step = self.execution.step
        if self.goal is None or step is None:
            return
        feedback = ExecuteTask.Feedback(
            subtask=step.subtask, n_subtasks=len(self.execution.subtasks), progress=progress
        )
        if subgoal is not None:
            feedback.image = subgoal.image
        self.goal.publish_feedback(feedback)


class Partners:
    """The safety gate and the policy, as far as the planner has heard of them."""

    def __init__(self) -> None:
        self.gate: GateState | None = None
        """State of the gate; None before its first message."""
        self._gate_heard = self._policy_heard = float("-inf")

    @property
    def unwilling(self) -> str:
        """Why the robot would not move; empty if it would, or if no gate is known."""
        if self.gate is None or self.gate.is_armed:
            return ""
        return f"the safety gate is not armed: {self.gate}"

    @property
    def may_move(self) -> bool:
        """Whether the gate is known and armed."""
        return self.gate is not None and self.gate.is_armed

    def begin(self) -> None:
        """A task begins; silence counts from now on."""
        self._policy_heard = self._gate_heard = time.monotonic()

    def on_gate(self, state: GateState) -> None:
        """The gate said its state."""
        self.gate, self._gate_heard = state, time.monotonic()

    def on_policy(self) -> None:
        """The policy is alive."""
        self._policy_heard = time.monotonic()

    def reason_to_stop(self, task: Task) -> str:
        """Why the task must end: a gate that stays disarmed, or silence. Empty if it may go on. Call it often."""
        now, unwilling = time.monotonic(), self.unwilling
        task.willing_at = task.willing_at if unwilling else now
        if now - task.willing_at > UNARMED_S:
            return unwilling
        if now - self._gate_heard > GATE_TIMEOUT_S:
            return f"no safety gate: silent for {GATE_TIMEOUT_S:g} s"
        if now - self._policy_heard > POLICY_TIMEOUT_S:
            return f"no policy: silent for {POLICY_TIMEOUT_S:g} s"
        return ""
