import numpy as np
import pytest

from emu_robot.control.episode_loop import Ending, EpisodeResult
from emu_robot.core import Observation, Transition
from emu_robot.evaluation.failures import KINDS, FailureWatch, classify
from emu_robot.evaluation.records import StepRecord

DUE = "put the red cube in the bowl"
START = {"red cube": (0.0, 0.0, 0.0), "blue can": (0.3, 0.0, 0.0)}


class World:
    def __init__(self):
        self.now = {"objects": START, "grasped": None, "subtask": DUE}

    def facts(self):
        return self.now


def watched(*ticks, closed=True):
    world = World()
    world.now |= ticks[0] if ticks else {}
    watch = FailureWatch(world)  # type: ignore[arg-type]
    empty = Observation(images={}, state=np.zeros(8, np.float32))
    watch.on_reset("tidy up", 0, empty)
    transition = Transition(observation=empty, success=False, subtasks_done=(False,))
    for tick, facts in enumerate(ticks or ({},)):
        world.now |= facts
        action = np.zeros(8, np.float32) if closed else np.ones(8, np.float32)
        watch.on_transition(tick + 1, action, transition)
    return watch


def outcome(watch, *, steps=(), ending=Ending.MAX_STEPS, success=False):
    result = EpisodeResult(
        seed=0, instruction="tidy up", success=success, ending=ending, n_steps=9, n_chunks=1, subtasks_done=(success,)
    )
    return classify(result, steps, watch)


def step(words, first=0, last=9):
    return StepRecord(subtask=words, truth=DUE, first_tick=first, last_tick=last, reached=False)


@pytest.mark.parametrize(
    ("watch", "kind"),
    [
        (watched(), "missed grasp"),
        (watched(closed=False), "no attempt"),
        (watched({"grasped": "red cube"}, {"grasped": None}), "dropped"),
        (watched({"grasped": "blue can"}, {"grasped": None}), "wrong object"),
        (watched({}, {"objects": START | {"blue can": (0.4, 0, 0)}}), "wrong object"),
        (watched({}, {"objects": START | {"red cube": (0.4, 0, 0)}}), "missed grasp"),
        (watched({"subtask": "push the red cube to the red zone"}), "timeout"),
        (watched({"subtask": "open the drawer", "grasped": "knob"}), "timeout"),
        (watched({"grasped": "blue can", "subtask": "other"}, {"grasped": None, "subtask": DUE}), "missed grasp"),
    ],
)
def test_kinds_from_facts(watch, kind):
    assert outcome(watch)[0] == kind
    assert kind in KINDS


def test_success_has_no_kind():
    assert outcome(watched(), success=True, ending=Ending.SUCCESS) == (None, None)


def test_planning_failures_come_first():
    assert outcome(watched(), ending=Ending.COMPLETE) == ("stopped early", f"left: {DUE}")
    kind, detail = outcome(watched(), steps=[step(DUE, 0, 3), step("open the drawer", 3, 9)])
    assert (kind, detail) == ("wrong plan step", f"due: {DUE}; asked for: open the drawer")
    assert outcome(watched(), steps=[step("open the drawer", 0, 2), step(DUE, 2, 9)])[0] == "missed grasp"


def test_an_environment_without_facts_gives_a_timeout():
    watch = FailureWatch(object())  # type: ignore[arg-type]
    assert outcome(watch) == ("timeout", None)
