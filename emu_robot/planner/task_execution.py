"""One task, executed plan by plan: it is told of progress, and never waits for the action head.

`EmuPolicy` does the same within one process. Knows no middleware and no threads.
"""

from enum import Enum
from typing import Protocol

from emu_robot.core import Observation, Plan, PlanStep
from emu_robot.errors import EmuRobotError, InvalidValueError
from emu_robot.planner.subtask_monitor import SubtaskMonitor, Verdict


class PlannerLike(Protocol):
    """What a task asks of its planner."""

    def plan(self, observation: Observation, instruction: str, max_steps: int | None = None) -> Plan: ...


class Outcome(Enum):
    """What came of planning: another step, the task complete (to be asked again), complete for certain, or nothing."""

    STEP = "step"
    COMPLETE = "complete"
    CONFIRMED = "confirmed"
    FAILED = "failed"


class PlanningError(EmuRobotError):
    """The planner failed several times in a row."""


class TaskExecution:
    """One task. Ask `plan` for the next step, tell `on_progress` of every chunk, plan again when its verdict says so.

    confirmations: how often in a row the planner must hold the task complete. max_failures: plans in a row that may
    fail before the task is given up; until then the step before stays.
    """

    def __init__(
        self,
        planner: PlannerLike,
        monitor: SubtaskMonitor,
        instruction: str,
        *,
        confirmations: int = 2,
        max_failures: int = 3,
    ) -> None:
        if not instruction.strip():
            raise InvalidValueError("the instruction is empty")
        if confirmations < 1 or max_failures < 1:
            raise InvalidValueError("confirmations and max_failures must be at least 1")
        self.instruction = instruction
        self._planner, self._monitor = planner, monitor
        self._confirmations, self._max_failures = confirmations, max_failures
        self._complete = self._failures = 0
        self.step: PlanStep | None = None
        self.subtasks: list[str] = []
        """That were begun, in order; one that goes on after a new plan counts once."""

    def plan(self, observation: Observation) -> Outcome:
        """Plan from the present view; the step is in `step`. Raises `PlanningError`."""
        try:
            plan = self._planner.plan(observation, self.instruction, max_steps=1)
        except EmuRobotError as error:
            self._failures += 1
            if self._failures >= self._max_failures:
                raise PlanningError(f"{self._failures} plans in a row failed, the last one: {error}") from error
            return Outcome.FAILED
        self._failures = 0
        if plan.is_complete:
            self._complete, self.step = self._complete + 1, None
            return Outcome.CONFIRMED if self._complete >= self._confirmations else Outcome.COMPLETE
        self._complete, self.step = 0, plan.steps[0]
        if not self.subtasks or self.subtasks[-1] != self.step.subtask:
            self.subtasks.append(self.step.subtask)
        self._monitor.start()
        return Outcome.STEP

    def on_progress(self, progress: float) -> Verdict:
        """Judge from the progress [0, 1] that a chunk was made with; call once per chunk of this step."""
        return self._monitor.update(progress)
