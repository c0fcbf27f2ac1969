import fakes
import numpy as np
import pytest

from emu_robot.control.episode_loop import Ending, EpisodeResult
from emu_robot.core import Observation, Transition
from emu_robot.environments.capabilities import KnowsFailures
from emu_robot.environments.contract import Environment
from emu_robot.evaluation.failures import KINDS, FailureWatch, classify, failure_kinds
from emu_robot.evaluation.records import StepRecord

DUE = "put the red cube on the plate"
BLIND = Observation(images={}, state=np.zeros(8, np.float32))


class Silent:
    """Only what is required: tells neither subtasks nor why it failed."""

    spec, task_name, instruction, max_steps = fakes.SPEC, "one", "tidy up", 60

    def reset(self, seed):
        return BLIND

    def step(self, action):
        return Transition(observation=BLIND, success=False, subtasks_done=())

    def close(self): ...


def watched(environment: Environment, opening: float = 0.0) -> FailureWatch:
    """A watch after one tick with the gripper commanded to `opening`."""
    environment.reset(0)
    watch, action = FailureWatch(environment), np.full(8, opening, np.float32)
    watch.on_reset("tidy up", 0, BLIND)
    environment.step(action)
    watch.on_transition(1, action, Transition(observation=BLIND, success=False, subtasks_done=(False,)))
    return watch


def outcome(watch, *, steps=(), ending=Ending.MAX_STEPS, success=False):
    result = EpisodeResult(
        seed=0, instruction="tidy up", success=success, ending=ending, n_steps=9, n_chunks=1, subtasks_done=(success,)
    )
    return classify(result, steps, watch)


def step(words, first=0, last=9):
    return StepRecord(subtask=words, truth=DUE, first_tick=first, last_tick=last, reached=False)


def test_success_has_no_kind():
    watch = watched(fakes.FakeEnvironment("one"))
    assert outcome(watch, success=True, ending=Ending.SUCCESS) == (None, None)


def test_planning_failures_come_first_then_the_environments_own_then_a_timeout():
    shut, opened = watched(fakes.FakeEnvironment("one")), watched(fakes.FakeEnvironment("one"), opening=1.0)
    assert outcome(opened, ending=Ending.COMPLETE) == ("stopped early", f"left: {DUE}")
    kind, detail = outcome(opened, steps=[step(DUE, 0, 3), step("open the drawer", 3, 9)])
    assert (kind, detail) == ("wrong plan step", f"due: {DUE}; asked for: open the drawer")
    assert outcome(opened, steps=[step("open the drawer", 0, 2), step(DUE, 2, 9)])[0] == "gave up"
    assert outcome(opened) == ("gave up", "the gripper was open")
    assert outcome(shut) == ("timeout", DUE)
    assert set(failure_kinds(fakes.SPEC)) == {*KINDS, "gave up"}


def test_what_was_pursued_before_the_due_subtask_became_due_does_not_count():
    environment = fakes.FakeEnvironment("both")
    watch = watched(environment)
    for tick in range(2, 12):
        environment.step(np.zeros(8, np.float32), observe=False)
        transition = Transition(observation=BLIND, success=False, subtasks_done=(True, False))
        watch.on_transition(tick, np.zeros(8, np.float32), transition)
    assert (watch.due, watch.since) == ("put the blue can on the plate", 10)
    assert outcome(watch, steps=[step(DUE, 0, 10)])[0] == "timeout"


@pytest.mark.parametrize(("ending", "kind"), [(Ending.MAX_STEPS, "timeout"), (Ending.COMPLETE, "stopped early")])
def test_an_environment_that_tells_nothing_has_the_general_kinds(ending, kind):
    environment = Silent()
    assert not isinstance(environment, KnowsFailures)
    assert outcome(watched(environment, opening=1.0), steps=[step("anything")], ending=ending) == (kind, None)
