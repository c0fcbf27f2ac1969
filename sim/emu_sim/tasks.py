"""Draws random tasks of a grammar."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from emu_sim.families import NAMED, STACKED_ON, Family, RejectedError, choose
from emu_sim.grammar import DRAWER, Grammar, Subtask, Task, shape_of
from emu_sim.unnamed import UNNAMED, VARIANTS

FAMILIES: dict[str, Family] = NAMED | UNNAMED
_MOST_SUBTASKS = {"sequence": 2, "sort": 3, "tower": 2, "clear": 4, "swap": 3, "gather": 2, "undo": 2}
COUNTERFACTUAL_FAMILIES, DRAWS_OF_FAMILY = 12, 25
"""Families that are tried for one more task of a scene, and draws of each."""


def sample_task(grammar: Grammar, families: Sequence[str], split: str, rng: np.random.Generator) -> Task:
    """A random task of one of the families (uniform over them) in the given split."""
    names = grammar.resolve(families, split)
    family = names[int(rng.integers(len(names)))]
    while True:
        for task in _draws(grammar, family, rng):
            if grammar.split_of(task) == split:
                return task


def most_subtasks(families: Sequence[str]) -> int:
    """Number of subtasks of the longest task of these families."""
    return max(_MOST_SUBTASKS.get(family, 1) for family in families)


def sample_chain(grammar: Grammar, split: str, rng: np.random.Generator) -> Task:
    """Six subtasks in one scene, of the kinds of single tasks; in a kept split at least one composition is kept.

    It is no family, because no instruction describes it. It serves to imagine far ahead.
    """
    while True:
        first, second, third = choose(rng, grammar.objects, 3)
        here, there = choose(rng, grammar.places, 2)
        steps = (
            Subtask("put", first, here),
            Subtask("open"),
            Subtask("put", second, DRAWER),
            Subtask("close"),
            Subtask("put", third, there),
            Subtask("stack", first, third),
        )
        task = Task("chain", "; ".join(step.text for step in steps), steps, (first, second, third), (here, there))
        if shape_of(third) in STACKED_ON and grammar.split_of(task) == split:
            return task


def counterfactuals(grammar: Grammar, task: Task, split: str, rng: np.random.Generator, n: int) -> list[Task]:
    """At most `n` tasks of other instructions in the task's own scene, in the given split."""
    limited, found = grammar.limited_to(task), {task.instruction: task}
    names = grammar.resolve(["all"], split)
    for _ in range(COUNTERFACTUAL_FAMILIES):
        if len(found) > n:
            break
        family = names[int(rng.integers(len(names)))]
        fitting = (other for other in _draws(limited, family, rng) if _fits(other, task))
        other = next((other for other in fitting if limited.split_of(other) == split), None)
        if other is not None:
            found.setdefault(other.instruction, replace(other, objects=task.objects, places=task.places, on=task.on))
    return list(found.values())[1:]


def _draws(grammar: Grammar, family: str, rng: np.random.Generator) -> Iterator[Task]:
    """Some tasks of the family, of any split."""
    for _ in range(DRAWS_OF_FAMILY):
        with suppress(RejectedError):
            yield _draw(grammar, family, rng)


def _fits(other: Task, scene: Task) -> bool:
    """Whether `other` can be asked for in the scene of a task."""
    same_names = set(other.objects) == set(scene.objects) and set(other.places) <= set(scene.places)
    same_start = other.drawer_open == scene.drawer_open and set(other.on) <= set(scene.on)
    occupied = {name for pair in scene.on if pair not in other.on for name in pair}
    return same_names and same_start and other.extreme in (None, scene.extreme) and not occupied & _involved(other)


def _involved(task: Task) -> set[str | None]:
    """Objects and receptacles of the subtasks."""
    return {name for step in task.subtasks for name in (step.object, step.target)}


def _draw(grammar: Grammar, family: str, rng: np.random.Generator) -> Task:
    """A task of the family, of any split. May raise `RejectedError`."""
    draw = FAMILIES[family]
    if family in grammar.varied and rng.random() < 0.5:
        draw = VARIANTS[family]
    task = draw(grammar, rng)
    if grammar.occupied_share and task.extreme is None:
        task = _occupy(grammar, task, rng)
    if grammar.late_share and not task.needs_memory and len(task.subtasks) > 1 and rng.random() < grammar.late_share:
        task = task.after(int(rng.integers(1, len(task.subtasks))))
    return task


def _occupy(grammar: Grammar, task: Task, rng: np.random.Generator) -> Task:
    """The task in a scene in which objects without a part in it may lie on free receptacles or in the open drawer."""
    busy = _involved(task) | {name for pair in task.on for name in pair}
    free = [place for place in (*task.places, *([DRAWER] if task.drawer_open else ())) if place not in busy]
    on = dict(task.on)
    for name in task.objects:
        if name not in busy and free and rng.random() < grammar.occupied_share:
            on[name] = free.pop(int(rng.integers(len(free))))
    return replace(task, on=tuple(on.items()))
