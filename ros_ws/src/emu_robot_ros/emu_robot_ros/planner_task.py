"""What the planner node keeps of a task beside its execution: client, times, and what the policy said of it."""

import queue
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from rclpy.action.server import ServerGoalHandle
from rclpy.task import Future

from emu_robot.planner.task_execution import TaskExecution


class State(StrEnum):
    """Of the planner, as its status says it."""

    IDLE = "idle"
    PLANNING = "planning"
    WAITING = "waiting"
    COMPLETE = "complete"


class Ended(Exception):
    """A task is over without success; says why."""


class Progress(NamedTuple):
    """What the policy said of one chunk."""

    sequence: int
    progress: float


@dataclass(kw_only=True)
class Task:
    """One task being pursued. goal: of its client, if it has one. over: its result is there, nothing follows.

    Times are of the steady clock [s]; willing_at: when the gate was last known to let it move.
    """

    execution: TaskExecution
    until: float
    goal: ServerGoalHandle | None = None
    started: float = field(default_factory=time.monotonic)
    finished: Future = field(default_factory=Future)
    over: bool = False
    willing_at: float = field(default_factory=time.monotonic)
    heard: "queue.SimpleQueue[Progress]" = field(default_factory=queue.SimpleQueue)

    @property
    def reason_to_stop(self) -> str:
        """Empty while there is none."""
        if self.goal is not None and self.goal.is_cancel_requested:
            return "canceled"
        return "time is up" if time.monotonic() > self.until else ""
