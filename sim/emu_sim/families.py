"""Families of tasks whose instructions name every object, or mean all of them. `unnamed` has the others."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from emu_sim.grammar import DRAWER, Grammar, Subtask, Task, colour_of, place_kind, preposition, shape_of
from emu_sim.phrasings import say

type Family = Callable[[Grammar, np.random.Generator], Task]
"""Draws a task of the family, of any split. May raise `RejectedError`."""


class RejectedError(Exception):
    """A draw that the grammar does not allow. Another one may succeed."""


def choose(rng: np.random.Generator, items: Sequence[str], n: int) -> tuple[str, ...]:
    """`n` different items."""
    if n > len(items):
        raise RejectedError
    return tuple(items[int(i)] for i in rng.choice(len(items), size=n, replace=False))


def fill(rng: np.random.Generator, needed: Sequence[str], pool: Sequence[str], n: int) -> tuple[str, ...]:
    """`needed` and random others of the pool, n in total."""
    rest = [item for item in pool if item not in needed]
    return (*needed, *choose(rng, rest, max(0, n - len(needed))))


def scene_places(grammar: Grammar, rng: np.random.Generator, needed: Sequence[str], n: int = 2) -> tuple[str, ...]:
    """The needed receptacles without the drawer, and others."""
    unique = tuple(dict.fromkeys(place for place in needed if place != DRAWER))
    return fill(rng, unique, grammar.places, n)


def scene_objects(
    grammar: Grammar, rng: np.random.Generator, needed: Sequence[str], pool: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The needed objects and others of the pool, by default of the grammar: from two to as many as a scene holds."""
    return fill(rng, needed, grammar.objects if pool is None else pool, int(rng.integers(2, grammar.slots + 1)))


def place_words(place: str) -> dict[str, str]:
    """The words of a receptacle for phrasings."""
    word = preposition(place)
    return {"place": place, "prep": word, "into": "into" if word == "in" else "on"}


def in_order(grammar: Grammar, names: Iterable[str]) -> list[str]:
    """The order of objects if the instruction names none: by colour, then by shape."""
    return sorted(names, key=lambda n: (grammar.colours.index(colour_of(n)), grammar.shapes.index(shape_of(n))))


def _pick_place(grammar: Grammar, rng: np.random.Generator) -> Task:
    obj, place = choose(rng, grammar.objects, 1)[0], choose(rng, grammar.places, 1)[0]
    text = say(grammar, rng, "pick_place", obj=obj, **place_words(place))
    objects = scene_objects(grammar, rng, [obj])
    return Task("pick_place", text, (Subtask("put", obj, place),), objects, scene_places(grammar, rng, [place]))


def _push(grammar: Grammar, rng: np.random.Generator) -> Task:
    steady = [name for name in grammar.objects if shape_of(name) in PUSHED]
    obj, zone = choose(rng, steady, 1)[0], choose(rng, grammar.zones, 1)[0]
    text = say(grammar, rng, "push", obj=obj, place=zone)
    objects = fill(rng, [obj], grammar.objects, 2)
    return Task("push", text, (Subtask("push", obj, zone),), objects, scene_places(grammar, rng, [zone]))


def _stack(grammar: Grammar, rng: np.random.Generator) -> Task:
    top, bottom = choose(rng, grammar.objects, 2)
    if shape_of(bottom) not in STACKED_ON:
        raise RejectedError
    text = say(grammar, rng, "stack", obj=top, place=bottom)
    objects = scene_objects(grammar, rng, [top, bottom])
    return Task("stack", text, (Subtask("stack", top, bottom),), objects, scene_places(grammar, rng, []))


def _open_drawer(grammar: Grammar, rng: np.random.Generator) -> Task:
    text, objects = say(grammar, rng, "open_drawer"), choose(rng, grammar.objects, 2)
    return Task("open_drawer", text, (Subtask("open"),), objects, scene_places(grammar, rng, []))


def _close_drawer(grammar: Grammar, rng: np.random.Generator) -> Task:
    text, objects = say(grammar, rng, "close_drawer"), choose(rng, grammar.objects, 2)
    places = scene_places(grammar, rng, [])
    return Task("close_drawer", text, (Subtask("close"),), objects, places, drawer_open=True)


def _put_in_drawer(grammar: Grammar, rng: np.random.Generator) -> Task:
    obj = choose(rng, grammar.objects, 1)[0]
    text = say(grammar, rng, "put_in_drawer", obj=obj)
    objects = scene_objects(grammar, rng, [obj])
    places = scene_places(grammar, rng, [])
    return Task("put_in_drawer", text, (Subtask("put", obj, DRAWER),), objects, places, drawer_open=True)


def _sequence(grammar: Grammar, rng: np.random.Generator) -> Task:
    first, second = choose(rng, grammar.objects, 2)
    kinds = choose(rng, tuple(dict.fromkeys(place_kind(place) for place in grammar.places)), 2)
    here, there = (choose(rng, grammar.zones, 1)[0] if kind == "zone" else kind for kind in kinds)
    steps = (Subtask("put", first, here), Subtask("put", second, there))
    text = say(grammar, rng, "sequence", first=steps[0].text, second=steps[1].text)
    objects = scene_objects(grammar, rng, [first, second])
    return Task("sequence", text, steps, objects, scene_places(grammar, rng, [here, there]))


def _sort(grammar: Grammar, rng: np.random.Generator) -> Task:
    colours = sorted(choose(rng, grammar.colours, 2), key=grammar.colours.index)
    objects = [f"{colour} {choose(rng, grammar.shapes, 1)[0]}" for colour in colours]
    if rng.random() < 0.5:  # a third object: another shape of one of the colours
        extra = [f"{colour} {shape}" for colour in colours for shape in grammar.shapes]
        objects = list(fill(rng, objects, extra, 3))
    objects = in_order(grammar, objects)
    steps = tuple(Subtask("put", name, f"{colour_of(name)} zone") for name in objects)
    places = tuple(f"{colour} zone" for colour in colours)
    return Task("sort", say(grammar, rng, "sort"), steps, tuple(objects), places)


def _tower(grammar: Grammar, rng: np.random.Generator) -> Task:
    bottom, middle, top = choose(rng, [name for name in grammar.objects if shape_of(name) == "cube"], 3)
    steps = (Subtask("stack", middle, bottom), Subtask("stack", top, middle))
    low, mid, high = (colour_of(name) for name in (bottom, middle, top))
    words = {"low": low, "mid": mid, "top": high, "bottom": bottom, "middle": middle, "upper": top}
    text = say(grammar, rng, "tower", **words)
    return Task("tower", text, steps, (middle, bottom, top), scene_places(grammar, rng, [], n=1))


def _clear(grammar: Grammar, rng: np.random.Generator) -> Task:
    objects = in_order(grammar, choose(rng, grammar.objects, int(rng.integers(1, 3))))
    steps = cleared(objects)
    return Task("clear", say(grammar, rng, "clear"), steps, tuple(objects), scene_places(grammar, rng, [], n=1))


def cleared(objects: Sequence[str]) -> tuple[Subtask, ...]:
    """The steps that put these objects in the closed drawer."""
    return (Subtask("open"), *(Subtask("put", name, DRAWER) for name in objects), Subtask("close"))


def _swap(grammar: Grammar, rng: np.random.Generator) -> Task:
    first, second = in_order(grammar, choose(rng, grammar.objects, 2))
    here, there = choose(rng, grammar.zones, 2)
    steps = (Subtask("put", first, "plate"), Subtask("put", second, here), Subtask("put", first, there))
    # Without the zones the scene would not show, after the first and last step, which object goes where.
    both = f"the {first} on the {here} and the {second} on the {there}"
    text = say(grammar, rng, "swap", both=both)
    return Task("swap", text, steps, (first, second), ("plate", here, there), on=((first, here), (second, there)))


PUSHED = ("cube", "can")
"""Shapes that stay upright and straight under a push."""
STACKED_ON = ("cube", "can", "brick")
"""Shapes with a top that carries another object."""
NAMED: dict[str, Family] = {
    "pick_place": _pick_place, "push": _push, "stack": _stack, "open_drawer": _open_drawer,
    "close_drawer": _close_drawer, "put_in_drawer": _put_in_drawer, "sequence": _sequence, "sort": _sort,
    "tower": _tower, "clear": _clear, "swap": _swap,
}  # fmt: skip
