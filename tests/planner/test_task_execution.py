from collections.abc import Sequence

import numpy as np
import pytest

from emu_robot.core import Observation, Plan, PlanStep
from emu_robot.errors import InvalidValueError, ShapeError
from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.subtask_monitor import SubtaskMonitor, Verdict
from emu_robot.planner.task_execution import Outcome, PlanningError, TaskExecution

NOWHERE = Observation(images={}, state=np.zeros(1, np.float32))


class Scripted:
    """A planner that says one subtask after the other: None is complete, an error is raised."""

    def __init__(self, script: Sequence[str | Exception | None]) -> None:
        self._script = list(script)

    def plan(self, observation: Observation, instruction: str, max_steps: int | None = None) -> Plan:
        said = self._script.pop(0)
        if isinstance(said, Exception):
            raise said
        return Plan(instruction=instruction, steps=(PlanStep(subtask=said),) if said else ())


def execution(*script: str | Exception | None, **options: int) -> TaskExecution:
    monitor = SubtaskMonitor(ReplanConfig(), steps_per_chunk=8, segment_steps_p90=80)
    return TaskExecution(Scripted(script), monitor, "tidy up", **options)


def outcomes(task: TaskExecution, n: int) -> list[Outcome]:
    return [task.plan(NOWHERE) for _ in range(n)]


def test_steps_follow_each_other_until_the_task_is_twice_held_complete():
    task = execution("open", "open", "put", None, "close", None, None)
    assert outcomes(task, 7) == [Outcome.STEP] * 3 + [
        Outcome.COMPLETE, Outcome.STEP, Outcome.COMPLETE, Outcome.CONFIRMED,
    ]  # fmt: skip
    assert task.subtasks == ["open", "put", "close"]


def test_a_step_is_reached_after_a_dwell_and_overdue_after_its_patience():
    task = execution("open", "put")
    task.plan(NOWHERE)
    assert [task.on_progress(p) for p in (0.2, 0.95, 0.5, 0.95, 0.95)][-2:] == [Verdict.CONTINUE, Verdict.REACHED]
    task.plan(NOWHERE)
    verdicts = [task.on_progress(0.1) for _ in range(19)]
    assert verdicts.index(Verdict.TIMEOUT) == 18  # 1.75 * 80 / 8 chunks


def test_a_failed_plan_leaves_the_step_and_too_many_end_the_task():
    bad = ShapeError("image", 1, 2)
    task = execution("open", bad, bad, "put", bad, bad, bad)
    assert outcomes(task, 3) == [Outcome.STEP, Outcome.FAILED, Outcome.FAILED]
    assert task.step is not None and task.step.subtask == "open"
    assert outcomes(task, 3) == [Outcome.STEP, Outcome.FAILED, Outcome.FAILED]
    with pytest.raises(PlanningError, match="3 plans in a row failed"):
        task.plan(NOWHERE)


def test_nonsense_is_refused():
    with pytest.raises(InvalidValueError, match="at least 1"):
        execution(confirmations=0)
    with pytest.raises(InvalidValueError, match="instruction is empty"):
        TaskExecution(Scripted([]), SubtaskMonitor(ReplanConfig(), steps_per_chunk=8, segment_steps_p90=80), " ")
