"""Words are compared as people do; texts keep their own form."""

import numpy as np
import pytest

from emu_robot.core import Observation, Plan, PlanStep, PolicyEvent
from emu_robot.evaluation.plan_accuracy import Query, summarise
from emu_robot.evaluation.records import StepRecord
from emu_robot.evaluation.step_log import same_step
from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.task_execution import TaskExecution
from emu_robot.shared.draws import EpisodeSeed
from emu_robot.shared.words import folded, same_words
from emu_robot.tokenizers.text import TextTokenizer

SAID, TRUE = "put the cube in the bowl", "Put the  Cube in the bowl "


def test_case_and_spaces_make_no_difference():
    assert same_words(SAID, TRUE) and not same_words(SAID, "put the can in the bowl")
    assert same_words(None, None) and not same_words(None, "") and not same_words("", None)
    assert folded("Stra\u00dfe") == folded("STRASSE") and same_words("u\u0308ber", "\u00dcber")


def test_the_tokenizer_agrees_with_the_comparison():
    text = TextTokenizer.train([TRUE, "CLOSE it"], 300)
    assert text.encode(SAID) == text.encode(TRUE) and same_words(text.decode(text.encode(TRUE)), TRUE)
    assert text.longest([SAID, "a"]) == len(text.encode(SAID)) and text.longest([]) == 0


def test_evaluation_compares_words_without_case():
    step = StepRecord(subtask=SAID, truth=TRUE, first_tick=0, last_tick=1, reached=True)
    assert step.right and step.truth == TRUE
    summary = summarise([Query(task="t", truth=TRUE, said=SAID, plan_s=0.1)])
    assert summary["next_subtask"]["n_success"] == 1 and not summary["wrong"]
    assert same_step(PlanStep(subtask=SAID), PlanStep(subtask=TRUE))


@pytest.mark.parametrize(("second", "n_begun"), [(TRUE, 1), ("push the cube", 2)])
def test_a_subtask_that_goes_on_in_other_letters_counts_once(second, n_begun):
    answers = iter([SAID, second])

    class Planner:
        def plan(self, observation, instruction, max_steps=None, *, seed=0, past=(), doubt=0.0) -> Plan:
            return Plan(instruction=instruction, steps=(PlanStep(subtask=next(answers)),))

    seen = Observation(images={}, state=np.zeros(1, np.float32))
    execution = TaskExecution(
        Planner(), "tidy", ReplanConfig(), steps_per_chunk=8, segment_steps_p90=80.0, clock=lambda: 0.0,
        episode=EpisodeSeed(0, 0),
    )  # fmt: skip
    assert [execution.plan(seen) for _ in range(2)] == [PolicyEvent.PLANNED] * 2
    assert len(execution.subtasks) == n_begun and execution.subtasks[0] == SAID
