from collections.abc import Sequence

import numpy as np
import pytest

from emu_robot.core import Observation, PastStep, Plan, PlanStep, PolicyEvent
from emu_robot.errors import InvalidValueError, ShapeError
from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.task_execution import PlanningError, TaskExecution
from emu_robot.shared.draws import EpisodeSeed

NOWHERE = Observation(images={}, state=np.zeros(1, np.float32))
PLANNED, COMPLETE, FAILED = PolicyEvent.PLANNED, PolicyEvent.COMPLETE, PolicyEvent.PLAN_FAILED


class Scripted:
    """A planner that says one subtask after the other: None is complete, an error is raised. end_odds: what it foresees
    after each step. seeds, past, doubts: those it got."""

    def __init__(self, script: Sequence[str | Exception | None], end_odds: float | None = None) -> None:
        self._script, self.end_odds = list(script), end_odds
        self.seeds: list[int] = []
        self.past: list[Sequence[PastStep]] = []
        self.doubts: list[float] = []

    def plan(
        self,
        observation: Observation,
        instruction: str,
        max_steps: int | None = None,
        *,
        seed: int = 0,
        past: Sequence[PastStep] = (),
        doubt: float = 0.0,
    ) -> Plan:
        self.seeds.append(seed)
        self.past.append(past)
        self.doubts.append(doubt)
        said = self._script.pop(0)
        if isinstance(said, Exception):
            raise said
        steps = (PlanStep(subtask=said),) if said else ()
        return Plan(instruction=instruction, steps=steps, end_odds=self.end_odds if said else None)


class Chunks:
    """A clock that the test moves on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def execution(planner: Scripted, clock: Chunks | None = None, seed: int = 0, **settings: float) -> TaskExecution:
    return TaskExecution(
        planner,
        "tidy up",
        ReplanConfig(**settings),  # pyright: ignore[reportArgumentType]
        steps_per_chunk=8,
        segment_steps_p90=80,
        clock=clock or Chunks(),
        episode=EpisodeSeed(seed),
    )


def events(task: TaskExecution, n: int) -> list[PolicyEvent]:
    return [task.plan(NOWHERE) for _ in range(n)]


def test_steps_follow_each_other_until_the_task_is_twice_held_complete():
    task = execution(Scripted(["open", "open", "put", None, "close", None, None]))
    assert events(task, 6) == [*[PLANNED] * 3, COMPLETE, PLANNED, COMPLETE]
    assert not task.is_over
    assert events(task, 1) == [COMPLETE]
    assert task.is_over and not task.is_due
    assert task.subtasks == ["open", "put", "close"]


def test_a_step_is_reached_after_a_dwell_and_overdue_after_its_patience():
    task = execution(Scripted(["open", "put"]))
    assert task.is_due
    task.plan(NOWHERE)
    assert [task.on_progress(p) for p in (0.2, 0.95, 0.5, 0.95)] == [(), (PolicyEvent.REACHED,), (), ()]
    assert not task.is_due
    assert task.on_progress(0.95) == (PolicyEvent.SWITCHED,) and task.is_due
    task.plan(NOWHERE)
    said = [task.on_progress(0.1) for _ in range(19)]
    assert said.index((PolicyEvent.TIMEOUT,)) == 18  # 1.75 * 80 / 8 chunks
    assert task.is_due


def test_a_step_of_which_no_chunk_is_heard_is_planned_again():
    clock = Chunks()
    task = execution(Scripted(["open", "put"]), clock)
    task.plan(NOWHERE)
    clock.now += task.patience - 0.1
    assert task.patience == 36 and not task.is_due
    clock.now += 0.2
    assert task.is_due


def test_a_task_held_complete_is_questioned_again_after_a_while():
    clock = Chunks()
    task = execution(Scripted([None, "open"]), clock, recheck_chunks=3)
    task.plan(NOWHERE)
    assert task.step is None and task.on_progress(0.99) == ()
    clock.now = 2.9
    assert not task.is_due
    clock.now = 3.0
    assert task.is_due and task.plan(NOWHERE) is PLANNED


def test_the_last_foreseen_step_declares_the_task_and_a_look_confirms_it():
    task = execution(Scripted(["put", None], end_odds=2.0))
    task.plan(NOWHERE)
    assert [task.on_progress(p) for p in (0.5, 0.85)] == [(), (PolicyEvent.REACHED, COMPLETE)]
    assert task.step is not None and not task.is_due and not task.is_over
    assert [task.on_progress(p) for p in (0.95, 0.95)] == [(), (PolicyEvent.SWITCHED,)]
    assert task.plan(NOWHERE) is COMPLETE and task.is_over


def test_a_look_takes_a_declaration_back():
    task = execution(Scripted(["put", "put", None, None], end_odds=2.0))
    task.plan(NOWHERE)
    assert COMPLETE in [event for p in (0.5, 0.85, 0.95, 0.95) for event in task.on_progress(p)]
    assert task.plan(NOWHERE) is PLANNED
    assert task.plan(NOWHERE) is COMPLETE and not task.is_over


@pytest.mark.parametrize(("end_odds", "confirmations"), [(None, 2), (-1.0, 2), (2.0, 1)])
def test_a_step_that_is_not_known_as_the_last_one_declares_nothing(end_odds: float | None, confirmations: int):
    task = execution(Scripted(["put"], end_odds=end_odds), confirmations=confirmations)
    task.plan(NOWHERE)
    assert [task.on_progress(p) for p in (0.5, 0.85)] == [(), (PolicyEvent.REACHED,)]


def test_an_end_that_was_not_foreseen_is_doubted_as_much():
    planner = Scripted(["open", "put", "close", None])
    task = execution(planner)
    for planner.end_odds in (-11.0, 3.0, None, None):
        task.plan(NOWHERE)
    assert planner.doubts == [0.0, 11.0, 0.0, 0.0]


def test_a_failed_plan_leaves_the_step_and_too_many_end_the_task():
    bad = ShapeError("image", 1, 2)
    task = execution(Scripted(["open", bad, bad, "put", bad, bad, bad]))
    assert events(task, 3) == [PLANNED, FAILED, FAILED]
    assert task.step is not None and task.step.subtask == "open"
    assert task.is_due and task.problem == str(bad)
    assert events(task, 3) == [PLANNED, FAILED, FAILED]
    with pytest.raises(PlanningError, match="3 plans in a row failed"):
        task.plan(NOWHERE)


def test_every_plan_has_a_seed_of_its_own():
    one, again, other = (Scripted(["a", None, "b"]) for _ in range(3))
    for planner, seed in ((one, 1), (again, 1), (other, 2)):
        events(execution(planner, seed=seed), 3)
    assert one.seeds == again.seeds
    assert len({*one.seeds, *other.seeds}) == 6


def test_nonsense_is_refused():
    with pytest.raises(InvalidValueError, match="confirmations is 0"):
        execution(Scripted([]), confirmations=0)
    with pytest.raises(InvalidValueError, match="instruction is empty"):
        TaskExecution(
            Scripted([]), " ", ReplanConfig(), steps_per_chunk=8, segment_steps_p90=80, clock=Chunks(),
            episode=EpisodeSeed(),
        )  # fmt: skip


def test_the_planner_is_told_what_was_pursued_and_from_which_picture():
    views = [Observation(images={}, state=np.full(1, i, np.float32)) for i in range(4)]
    planner = Scripted(["open the drawer", "open the drawer", None, "close the drawer"])
    task = execution(planner)
    for view in views:
        task.plan(view)
    told = [[(step.subtask, step.observation.state[0]) for step in past] for past in planner.past]
    first, again = ("open the drawer", 0), ("open the drawer", 1)
    assert told == [[], [first], [first, again], [first, again]]


def test_a_persons_words_are_pursued_until_they_are_reached_and_then_the_planner_is_asked():
    task = execution(Scripted(["open", "put", None, "close"]))
    task.plan(NOWHERE)
    task.pursue("  nudge the cube ")
    assert task.is_due and task.step is None
    assert task.plan(NOWHERE) is PLANNED
    assert task.step == PlanStep(subtask="nudge the cube") and not task.is_due
    assert task.on_progress(0.2) == ()
    while PolicyEvent.SWITCHED not in task.on_progress(0.99):
        assert not task.is_due
    assert task.plan(NOWHERE) is PLANNED and task.step is not None and task.step.subtask == "put"
    assert task.plan(NOWHERE) is COMPLETE
    task.pursue("")
    assert task.is_due, "a task that was declared complete is planned again"
    assert task.plan(NOWHERE) is PLANNED and task.subtasks == ["open", "nudge the cube", "put", "close"]


def test_a_planner_that_draws_shows_what_a_persons_words_lead_to():
    class Draws(Scripted):
        def draw_subgoal(self, observation: Observation, subtask: str, *, seed: int) -> np.ndarray | None:
            return np.full((4, 4, 3), len(subtask), np.uint8)

    task = execution(Draws([]))
    task.pursue("wave")
    task.plan(NOWHERE)
    assert task.step is not None and task.step.subgoal is not None and task.step.subgoal[0, 0, 0] == 4
