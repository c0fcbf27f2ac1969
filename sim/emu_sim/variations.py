"""Other instructions in the scene of a task: roles swapped, order reversed, or another task. Knows no physics."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from emu_robot.environments.capabilities import Variation
from emu_robot.environments.contract import SEEN
from emu_sim.families import PUSHED, STACKED_ON, place_words
from emu_sim.grammar import Grammar, Subtask, Task, colour_of, place_kind, shape_of
from emu_sim.layout import Layout, can_push
from emu_sim.phrasings import KEPT, REVERSED, say_otherwise
from emu_sim.tasks import counterfactuals
from emu_sim.unnamed import ROOMY

DRAWS = 8
"""Other tasks of a scene that are drawn, to find one without a step in common."""


def variations(
    grammar: Grammar, task: Task, layout: Layout, split: str, rng: np.random.Generator
) -> dict[Variation, Task]:
    """One task for each variation that the scene allows, with compositions of `split` and of the split "seen" alone."""

    def is_allowed(other: Task) -> bool:
        return grammar.split_of(other) in (SEEN, split) and can_push(layout, other)

    found: dict[Variation, Task] = {}
    share = rng.random()  # one for all, so that negated and restated have the same phrasing
    for variation, candidates in CANDIDATES.items():
        possible = [other for other in candidates(task) if is_allowed(other)]
        if possible:
            found[variation] = possible[int(share * len(possible))]
    drawn = [*counterfactuals(grammar, task, split, rng, DRAWS), *counterfactuals(grammar, task, SEEN, rng, DRAWS)]
    asked = {step for other in (task, *found.values()) for step in other.subtasks}
    others = [other for other in drawn if is_allowed(other) and not set(other.subtasks) & asked]
    if others:
        found[Variation.COUNTERFACTUAL] = others[0]
    return found


def _swapped(task: Task) -> Iterator[Task]:
    steps = task.subtasks
    match task.family:
        case "sequence" if len(steps) == 2:
            yield from _exchanged_targets(task)
        case "stack":
            (step,) = steps
            if shape_of(str(step.object)) in STACKED_ON:
                yield from _one_step(task, "stack", Subtask("stack", step.target, step.object))
        case "tower" if len(steps) == 2:
            yield from _turned_over(task)
        case "pick_place" | "push" | "put_in_drawer":
            yield from _other_object(task)
            yield from _other_place(task)
        case "extreme" | "transfer" | "gather":
            yield from _other_place(task)
        case "sort":
            yield from _exchanged_places(task)


def _exchanged_targets(task: Task) -> Iterator[Task]:
    """ "Put A on X, then B on Y" becomes "put A on Y, then B on X"."""
    first, second = task.subtasks
    yield from _sequence(task, replace(first, target=second.target), replace(second, target=first.target))


def _reordered(task: Task) -> Iterator[Task]:
    if task.family == "sequence" and len(task.subtasks) == 2:
        yield from _sequence(task, *reversed(task.subtasks))


def _sequence(task: Task, *steps: Subtask) -> Iterator[Task]:
    """The sequence of other steps, in the task's own phrasing."""
    before, after = ({"first": a.text, "second": b.text} for a, b in (task.subtasks, steps))
    yield from _told(task, "sequence", before, after, steps)


def _negated(task: Task) -> Iterator[Task]:
    yield from _unfamiliar(task, REVERSED, tuple(reversed(task.subtasks)))


def _restated(task: Task) -> Iterator[Task]:
    yield from _unfamiliar(task, KEPT, task.subtasks)


def _unfamiliar(task: Task, phrasings: tuple[str, ...], steps: tuple[Subtask, ...]) -> Iterator[Task]:
    """The sequence told by phrasings that no demonstration has."""
    if task.family == "sequence" and len(steps) == 2:
        first, second = (step.text for step in task.subtasks)
        for phrasing in phrasings:
            yield replace(task, instruction=phrasing.format(first=first, second=second), subtasks=steps)


CANDIDATES: Mapping[Variation, Callable[[Task], Iterator[Task]]] = {
    Variation.SWAPPED: _swapped,
    Variation.REORDERED: _reordered,
    Variation.NEGATED: _negated,
    Variation.RESTATED: _restated,
}


def _turned_over(task: Task) -> Iterator[Task]:
    """The tower upside down."""
    low, high = task.subtasks
    middle, bottom, top = str(low.object), str(low.target), str(high.object)

    def words(low: str, mid: str, top: str) -> dict[str, str]:
        colours = {"low": colour_of(low), "mid": colour_of(mid), "top": colour_of(top)}
        return {**colours, "bottom": low, "middle": mid, "upper": top}

    steps = (Subtask("stack", middle, top), Subtask("stack", bottom, middle))
    yield from _told(task, "tower", words(bottom, middle, top), words(top, middle, bottom), steps)


def _other_object(task: Task) -> Iterator[Task]:
    """Another free object of the scene in the same place."""
    (step,) = task.subtasks
    lying = {name for name, _ in task.on}
    for name in task.objects:
        if name != step.object and name not in lying and (step.kind != "push" or shape_of(name) in PUSHED):
            yield from _one_step(task, task.family, replace(step, object=name))


def _other_place(task: Task) -> Iterator[Task]:
    """The same objects in another free receptacle on the table."""
    steps, taken = task.subtasks, {place for _, place in task.on}
    if task.family == "put_in_drawer" or len({step.target for step in steps}) > 1 or steps[0].target in taken:
        return
    taken.add(str(steps[0].target))
    for place in task.places:
        has_room = len(steps) == 1 or place_kind(place) in ROOMY
        if place not in taken and has_room and (steps[0].kind != "push" or place_kind(place) == "zone"):
            before, after = place_words(str(steps[0].target)), place_words(place)
            moved = tuple(replace(step, target=place) for step in steps)
            yield from _told(task, task.family, before, after, moved)


def _exchanged_places(task: Task) -> Iterator[Task]:
    """ "The cans on X and the cubes on Y" becomes "the cans on Y and the cubes on X"."""
    places = tuple(dict.fromkeys(str(step.target) for step in task.subtasks))
    if len(places) != 2:
        return
    other = dict(zip(places, reversed(places), strict=True))
    steps = tuple(replace(step, target=other[str(step.target)]) for step in task.subtasks)
    crowded = any(
        sum(step.target == place for step in steps) > 1 and place_kind(place) not in ROOMY for place in places
    )
    if crowded or set(dict(task.on).values()) & set(places):
        return
    for here, there in (places, tuple(reversed(places))):
        before, after = _both(here, there), _both(there, here)
        yield from _told(task, "sort_named", before, after, steps)


def _both(here: str, there: str) -> dict[str, str]:
    first, second = place_words(here), place_words(there)
    return {"here": here, "prep": first["prep"], "there": there, "prep2": second["prep"]}


def _one_step(task: Task, key: str, step: Subtask) -> Iterator[Task]:
    """The task with another object, or with both words of its step exchanged."""
    (own,) = task.subtasks
    before, after = ({"obj": str(s.object), **place_words(str(s.target))} for s in (own, step))
    yield from _told(task, key, before, after, (step,))


def _told(
    task: Task, key: str, before: Mapping[str, str], after: Mapping[str, str], steps: tuple[Subtask, ...]
) -> Iterator[Task]:
    """The task with other words and steps, if its instruction has one of the phrasings."""
    text = say_otherwise(key, task.instruction, before, after)
    if text is not None:
        yield replace(task, instruction=text, subtasks=steps)
