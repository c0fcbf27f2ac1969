"""Families whose instructions leave objects unnamed: the planner has to look for what is meant.

The next subtask follows from instruction and present picture, but for `undo`, which needs the pictures before.
"""

import numpy as np

from emu_sim.families import (
    Family,
    choose,
    cleared,
    fill,
    in_order,
    place_words,
    scene_objects,
    scene_places,
)
from emu_sim.grammar import DRAWER, Grammar, Subtask, Task, colour_of, place_kind, preposition, shape_of
from emu_sim.phrasings import SIDES, say

ROOMY = ("zone", "box", DRAWER)
"""Kinds of receptacles with room for two objects."""
PICKED_FROM = ("zone", "plate", "box", DRAWER)
"""Kinds of receptacles from which the gripper lifts an object; the rim of a bowl is in its way."""


def _attribute(rng: np.random.Generator) -> str:
    return ("colour", "shape")[int(rng.integers(2))]


def _value(name: str, attribute: str) -> str:
    return colour_of(name) if attribute == "colour" else shape_of(name)


def _those(rng: np.random.Generator, value: str, attribute: str) -> str:
    """Words for all objects of one colour or shape."""
    if attribute == "shape":
        return (f"all {value}s", f"the {value}s", f"every {value}")[int(rng.integers(2))]
    return (f"the {value} ones", f"all {value} objects", f"the {value} objects")[int(rng.integers(3))]


def _with(grammar: Grammar, value: str, attribute: str) -> list[str]:
    return [name for name in grammar.objects if _value(name, attribute) == value]


def _values(grammar: Grammar, attribute: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_value(name, attribute) for name in grammar.objects))


def _mixed(grammar: Grammar, rng: np.random.Generator) -> tuple[str, str, list[str], tuple[str, ...]]:
    """An attribute, its value, one or two objects that have it in canonical order, and these with some that do not."""
    attribute = _attribute(rng)
    value = choose(rng, _values(grammar, attribute), 1)[0]
    meant = choose(rng, _with(grammar, value, attribute), int(rng.integers(1, 3)))
    others = [name for name in grammar.objects if _value(name, attribute) != value]
    ordered = in_order(grammar, meant)
    return attribute, value, ordered, fill(rng, ordered, others, int(rng.integers(len(meant) + 1, grammar.slots + 1)))


def _extreme(grammar: Grammar, rng: np.random.Generator) -> Task:
    obj, place = choose(rng, grammar.objects, 1)[0], choose(rng, grammar.places, 1)[0]
    side = choose(rng, tuple(SIDES), 1)[0]
    text = say(grammar, rng, "extreme", side=choose(rng, SIDES[side], 1)[0], **place_words(place))
    objects, places = scene_objects(grammar, rng, [obj]), scene_places(grammar, rng, [place])
    return Task("extreme", text, (Subtask("put", obj, place),), objects, places, extreme=(side, obj))


def _transfer(grammar: Grammar, rng: np.random.Generator) -> Task:
    obj, place = choose(rng, grammar.objects, 1)[0], choose(rng, grammar.places, 1)[0]
    source = choose(rng, [p for p in grammar.receptacles if place_kind(p) in PICKED_FROM and p != place], 1)[0]
    words = {"from_prep": preposition(source), "source": source, **place_words(place)}
    text = say(grammar, rng, "transfer", **words)
    objects, places = scene_objects(grammar, rng, [obj]), scene_places(grammar, rng, [source, place])
    steps = (Subtask("put", obj, place),)
    return Task("transfer", text, steps, objects, places, drawer_open=source == DRAWER, on=((obj, source),))


def _match(grammar: Grammar, rng: np.random.Generator) -> Task:
    attribute = _attribute(rng)
    value = choose(rng, _values(grammar, attribute), 1)[0]
    there, obj = choose(rng, _with(grammar, value, attribute), 2)
    place = choose(rng, [p for p in grammar.receptacles if place_kind(p) in ROOMY], 1)[0]
    # The others share the attribute neither with the pair nor with each other.
    rest = [v for v in _values(grammar, attribute) if v != value]
    values = choose(rng, rest, int(rng.integers(1, grammar.slots - 1)))
    others = [choose(rng, _with(grammar, v, attribute), 1)[0] for v in values]
    text = say(grammar, rng, "match", attribute=attribute)
    places = scene_places(grammar, rng, [place])
    objects, steps = (obj, there, *others), (Subtask("put", obj, place),)
    return Task("match", text, steps, objects, places, drawer_open=place == DRAWER, on=((there, place),))


def _gather(grammar: Grammar, rng: np.random.Generator) -> Task:
    attribute, value, meant, objects = _mixed(grammar, rng)
    roomy = [p for p in grammar.receptacles if place_kind(p) in ROOMY or len(meant) == 1]
    place = choose(rng, roomy, 1)[0]
    text = say(grammar, rng, "gather", those=_those(rng, value, attribute), **place_words(place))
    steps = tuple(Subtask("put", name, place) for name in meant)
    return Task("gather", text, steps, objects, scene_places(grammar, rng, [place]), drawer_open=place == DRAWER)


def _clear_some(grammar: Grammar, rng: np.random.Generator) -> Task:
    attribute, value, meant, objects = _mixed(grammar, rng)
    those = _those(rng, value, attribute)
    if rng.random() < 0.5:
        text = say(grammar, rng, "clear_some", those=those)
        return Task("clear", text, cleared(meant), objects, scene_places(grammar, rng, [], n=1))
    text = say(grammar, rng, "clear_box", those=those)
    steps = tuple(Subtask("put", name, "box") for name in meant)
    return Task("clear", text, steps, objects, scene_places(grammar, rng, ["box"]))


def _sort_named(grammar: Grammar, rng: np.random.Generator) -> Task:
    attribute = _attribute(rng)
    values = choose(rng, _values(grammar, attribute), 2)
    here, there = choose(rng, grammar.places, 2)
    goals: dict[str, str] = {}
    for value, place in zip(values, (here, there), strict=True):
        n = int(rng.integers(1, 3)) if place_kind(place) in ROOMY and len(goals) < 2 else 1
        goals |= dict.fromkeys(choose(rng, _with(grammar, value, attribute), n), place)
    objects = in_order(grammar, goals)
    words = {"those": _those(rng, values[0], attribute), "others": _those(rng, values[1], attribute)}
    words |= {"here": here, "there": there, "prep": preposition(here), "prep2": preposition(there)}
    steps = tuple(Subtask("put", name, goals[name]) for name in objects)
    places = scene_places(grammar, rng, [here, there])
    return Task("sort", say(grammar, rng, "sort_named", **words), steps, tuple(objects), places)


def _undo(grammar: Grammar, rng: np.random.Generator) -> Task:
    obj = choose(rng, grammar.objects, 1)[0]
    home, place = choose(rng, [p for p in grammar.places if place_kind(p) in PICKED_FROM], 2)
    steps = (Subtask("put", obj, place), Subtask("put", obj, home))
    text = say(grammar, rng, "undo", first=steps[0].text)
    objects, places = scene_objects(grammar, rng, [obj]), scene_places(grammar, rng, [home, place])
    return Task("undo", text, steps, objects, places, on=((obj, home),), needs_memory=True)


UNNAMED: dict[str, Family] = {
    "extreme": _extreme, "transfer": _transfer, "match": _match, "gather": _gather, "undo": _undo,
}  # fmt: skip
VARIANTS: dict[str, Family] = {"clear": _clear_some, "sort": _sort_named}
"""Further variants of named families, for grammars with all phrasings."""
