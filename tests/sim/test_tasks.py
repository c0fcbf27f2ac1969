"""The grammar: enough instructions, a clean split, sensible errors."""

import numpy as np
import pytest

from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_sim import tasks

FAMILIES = [task.name for task in tasks.TASKS]


def _sample(family: str, split: str, n: int = 60) -> list[tasks.Task]:
    rng = np.random.default_rng(0)
    return [tasks.sample_task([family], split, rng) for _ in range(n)]


def test_many_distinct_instructions_with_paraphrases() -> None:
    seen = {task.instruction for family in FAMILIES for task in _sample(family, "seen")}
    assert len(seen) >= 200
    assert len({task.instruction.split()[0] for task in _sample("pick_place", "seen")}) >= 3


def test_seen_tasks_never_contain_a_heldout_composition() -> None:
    for family in FAMILIES:
        for task in _sample(family, "seen", 200):
            assert not any(step.is_heldout for step in task.subtasks)
            for step in task.subtasks:
                assert (step.object, step.target) not in tasks.HELDOUT_PAIRS or step.kind == "stack"


def test_heldout_tasks_contain_one_and_every_word_is_also_seen() -> None:
    words = {word for family in FAMILIES for t in _sample(family, "seen", 200) for word in t.instruction.split()}
    for family in tasks.resolve_families(["all"], "heldout"):
        for task in _sample(family, "heldout"):
            order = tuple("zone" if "zone" in str(s.target) else str(s.target) for s in task.subtasks)
            assert any(step.is_heldout for step in task.subtasks) or order in tasks.HELDOUT_ORDERS
            assert set(task.instruction.split()) <= words


def test_long_tasks_have_two_to_five_subtasks() -> None:
    for family in tasks.LONG_FAMILIES:
        assert all(2 <= len(task.subtasks) <= 5 for task in _sample(family, "seen"))


@pytest.mark.parametrize("family", FAMILIES)
def test_most_subtasks_is_reached_and_never_passed(family: str) -> None:
    assert max(len(task.subtasks) for task in _sample(family, "seen")) == tasks.most_subtasks([family])


def test_every_object_and_receptacle_is_seen() -> None:
    pairs = {(s.object, s.target) for t in _sample("pick_place", "seen", 1500) for s in t.subtasks}
    assert {obj for obj, _ in pairs} == set(tasks.OBJECTS)
    assert {place for _, place in pairs} == set(tasks.RECEPTACLES) - {"drawer"}


@pytest.mark.parametrize("split", tasks.SPLITS)
def test_instruction_and_scene_say_what_comes_next(split: str) -> None:
    """A planner sees the present only: equal instructions in equal scenes must have the same next subtask."""
    for family in tasks.resolve_families(["all"], split):
        next_subtask: dict[tuple[str, tuple[tuple[str, str], ...]], str | None] = {}
        for task in _sample(family, split, 3000):
            where = dict.fromkeys(task.objects, "table") | dict(task.on)
            where["drawer"] = "open" if task.drawer_open else "closed"
            for step in (*task.subtasks, None):
                scene = task.instruction, tuple(sorted(where.items()))
                due = step and step.text
                assert next_subtask.setdefault(scene, due) == due, scene
                if step is not None:
                    where[step.object or "drawer"] = step.target or {"open": "open", "close": "closed"}[step.kind]


def test_unknown_names_say_what_exists() -> None:
    with pytest.raises(UnknownNameError, match="unknown task 'juggle'; known: pick_place, push"):
        tasks.resolve_families(["juggle"], "seen")
    with pytest.raises(UnknownNameError, match="unknown split 'test'; known: seen, heldout"):
        tasks.resolve_families(["single"], "test")
    with pytest.raises(InvalidValueError, match="task 'open_drawer' has no split 'heldout'; it has seen"):
        tasks.resolve_families(["open_drawer"], "heldout")
