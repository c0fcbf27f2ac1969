"""The grammar of tasks: families, their phrasings, and the compositions held out from demonstrations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from emu_robot.environments.contract import TaskSpec, select_tasks

COLOURS = ("red", "green", "blue", "yellow")
SHAPES = ("cube", "can")
OBJECTS = tuple(f"{colour} {shape}" for shape, colour in product(SHAPES, COLOURS))
ZONES = tuple(f"{colour} zone" for colour in COLOURS)
RECEPTACLES = ("bowl", "plate", *ZONES, "drawer")
SEEN, HELDOUT = SPLITS = ("seen", "heldout")

# Every fifth cell of the object x receptacle and of the top x bottom table is held out, spread over rows and columns.
HELDOUT_PAIRS = frozenset(
    (obj, place) for (i, obj), (j, place) in product(enumerate(OBJECTS), enumerate(RECEPTACLES)) if (i + 2 * j) % 5 == 3
)
HELDOUT_STACKS = frozenset(
    (top, bottom) for (i, top), (j, bottom) in product(enumerate(OBJECTS), repeat=2) if i != j and (i + 2 * j) % 5 == 3
)
# Step orders (kind of first place, kind of second place) of the family "sequence".
HELDOUT_ORDERS = frozenset({("plate", "bowl"), ("zone", "plate")})


@dataclass(frozen=True, slots=True)
class Subtask:
    """One language step."""

    kind: str
    """put | push | stack | open | close."""
    object: str | None = None
    """Name of the grammar; None for the drawer's steps."""
    target: str | None = None
    """Name of the grammar; None without one."""

    @property
    def text(self) -> str:
        match self.kind:
            case "put":
                preposition = "in" if self.target in ("bowl", "drawer") else "on"
                return f"put the {self.object} {preposition} the {self.target}"
            case "push":
                return f"push the {self.object} to the {self.target}"
            case "stack":
                return f"stack the {self.object} on the {self.target}"
            case _:
                return f"{self.kind} the drawer"

    @property
    def is_heldout(self) -> bool:
        pair = (self.object, self.target)
        return pair in HELDOUT_STACKS if self.kind == "stack" else pair in HELDOUT_PAIRS


@dataclass(frozen=True, slots=True)
class Task:
    """An instruction with its true decomposition and the contents of the scene."""

    family: str
    """Family of the task."""
    instruction: str
    """The task in words."""
    subtasks: tuple[Subtask, ...]
    """The true steps, in order."""
    objects: tuple[str, ...]
    """Objects on the table, those of the task first."""
    places: tuple[str, ...]
    """Receptacles in the scene, without the drawer."""
    drawer_open: bool = False
    """Whether the drawer starts open."""
    on: tuple[tuple[str, str], ...] = ()
    """(object, place it starts on); other objects start at a free spot of the table."""

    @property
    def split(self) -> str:
        """The split: "heldout" if demonstrations lack one of the compositions or the order of the steps."""
        order = tuple(_place_kind(s.target) for s in self.subtasks)
        heldout_order = self.family == "sequence" and order in HELDOUT_ORDERS
        return "heldout" if heldout_order or any(s.is_heldout for s in self.subtasks) else "seen"


def _place_kind(place: str | None) -> str:
    return "zone" if place in ZONES else str(place)


def _choose(rng: np.random.Generator, items: Sequence[str], n: int) -> tuple[str, ...]:
    return tuple(items[int(i)] for i in rng.choice(len(items), size=n, replace=False))


def _fill(rng: np.random.Generator, needed: Sequence[str], pool: Sequence[str], n: int) -> tuple[str, ...]:
    """`needed` and random others of the pool, n in total."""
    rest = [item for item in pool if item not in needed]
    return (*needed, *_choose(rng, rest, max(0, n - len(needed))))


def _places(rng: np.random.Generator, needed: Sequence[str], n: int = 2) -> tuple[str, ...]:
    unique = tuple(dict.fromkeys(place for place in needed if place != "drawer"))
    return _fill(rng, unique, ("bowl", "plate", *ZONES), n)


def _say(rng: np.random.Generator, *phrasings: str) -> str:
    return phrasings[int(rng.integers(len(phrasings)))]


def _pick_place(rng: np.random.Generator) -> Task:
    obj, place = _choose(rng, OBJECTS, 1)[0], _choose(rng, RECEPTACLES[:-1], 1)[0]
    word = "in" if place == "bowl" else "on"
    text = _say(rng, f"put the {obj} {word} the {place}", f"place the {obj} {word}to the {place}".replace("onto", "on"),
                f"move the {obj} to the {place}", f"pick up the {obj} and put it {word} the {place}")  # fmt: skip
    objects = _fill(rng, [obj], OBJECTS, int(rng.integers(2, 4)))
    return Task("pick_place", text, (Subtask("put", obj, place),), objects, _places(rng, [place]))


def _push(rng: np.random.Generator) -> Task:
    obj, zone = _choose(rng, OBJECTS, 1)[0], _choose(rng, ZONES, 1)[0]
    text = _say(
        rng, f"push the {obj} to the {zone}", f"slide the {obj} to the {zone}", f"push the {obj} onto the {zone}"
    )
    objects = _fill(rng, [obj], OBJECTS, 2)
    return Task("push", text, (Subtask("push", obj, zone),), objects, _places(rng, [zone]))


def _stack(rng: np.random.Generator) -> Task:
    top, bottom = _choose(rng, OBJECTS, 2)
    text = _say(rng, f"stack the {top} on the {bottom}", f"put the {top} on top of the {bottom}")
    objects = _fill(rng, [top, bottom], OBJECTS, int(rng.integers(2, 4)))
    return Task("stack", text, (Subtask("stack", top, bottom),), objects, _places(rng, []))


def _open_drawer(rng: np.random.Generator) -> Task:
    text = _say(rng, "open the drawer", "pull the drawer open")
    return Task("open_drawer", text, (Subtask("open"),), _choose(rng, OBJECTS, 2), _places(rng, []))


def _close_drawer(rng: np.random.Generator) -> Task:
    text = _say(rng, "close the drawer", "push the drawer shut")
    return Task("close_drawer", text, (Subtask("close"),), _choose(rng, OBJECTS, 2), _places(rng, []), drawer_open=True)


def _put_in_drawer(rng: np.random.Generator) -> Task:
    obj = _choose(rng, OBJECTS, 1)[0]
    text = _say(
        rng, f"put the {obj} in the drawer", f"place the {obj} into the drawer", f"move the {obj} to the drawer"
    )
    objects = _fill(rng, [obj], OBJECTS, int(rng.integers(2, 4)))
    return Task("put_in_drawer", text, (Subtask("put", obj, "drawer"),), objects, _places(rng, []), drawer_open=True)


def _sequence(rng: np.random.Generator) -> Task:
    first, second = _choose(rng, OBJECTS, 2)
    kinds = _choose(rng, ("bowl", "plate", "zone"), 2)
    here, there = (_choose(rng, ZONES, 1)[0] if kind == "zone" else kind for kind in kinds)
    steps = (Subtask("put", first, here), Subtask("put", second, there))
    text = _say(rng, f"{steps[0].text}, then {steps[1].text}", f"first {steps[0].text} and then {steps[1].text}")
    objects = _fill(rng, [first, second], OBJECTS, int(rng.integers(2, 4)))
    return Task("sequence", text, steps, objects, _places(rng, [here, there]))


def _sort(rng: np.random.Generator) -> Task:
    colours = sorted(_choose(rng, COLOURS, 2), key=COLOURS.index)
    objects = [f"{colour} {_choose(rng, SHAPES, 1)[0]}" for colour in colours]
    if rng.random() < 0.5:  # a third object: the other shape of one of the colours
        extra = [f"{colour} {shape}" for colour, shape in product(colours, SHAPES)]
        objects = list(_fill(rng, objects, extra, 3))
    objects.sort(key=lambda name: (COLOURS.index(name.split()[0]), SHAPES.index(name.split()[1])))
    steps = tuple(Subtask("put", name, f"{name.split()[0]} zone") for name in objects)
    text = _say(rng, "sort the objects by colour", "put every object on the zone of its colour")
    return Task("sort", text, steps, tuple(objects), tuple(f"{colour} zone" for colour in colours))


def _tower(rng: np.random.Generator) -> Task:
    cubes = OBJECTS[: len(COLOURS)]
    bottom, middle, top = _choose(rng, cubes, 3)
    steps = (Subtask("stack", middle, bottom), Subtask("stack", top, middle))
    names = [name.split()[0] for name in (bottom, middle, top)]
    text = _say(
        rng,
        f"build a tower of cubes: {names[0]}, then {names[1]}, then {names[2]} on top",
        f"build a tower with the {bottom} at the bottom, the {middle} in the middle and the {top} on top",
    )
    return Task("tower", text, steps, (middle, bottom, top), _places(rng, [], n=1))


def _clear(rng: np.random.Generator) -> Task:
    objects = sorted(_choose(rng, OBJECTS, int(rng.integers(1, 3))), key=_canonical)
    steps = (Subtask("open"), *(Subtask("put", name, "drawer") for name in objects), Subtask("close"))
    text = _say(rng, "clear the table into the drawer", "put everything in the drawer and close it")
    return Task("clear", text, steps, tuple(objects), _places(rng, [], n=1))


def _swap(rng: np.random.Generator) -> Task:
    first, second = sorted(_choose(rng, OBJECTS, 2), key=_canonical)
    here, there = _choose(rng, ZONES, 2)
    steps = (Subtask("put", first, "plate"), Subtask("put", second, here), Subtask("put", first, there))
    # Without the zones the scene would not show, after the first and last step, which object goes where.
    both = f"the {first} on the {here} and the {second} on the {there}"
    text = _say(rng, f"swap {both}", f"exchange the places of {both}")
    return Task("swap", text, steps, (first, second), ("plate", here, there), on=((first, here), (second, there)))


def _canonical(name: str) -> tuple[int, int]:
    """The order of objects if the instruction names none: by colour, then cubes before cans."""
    colour, shape = name.split()
    return COLOURS.index(colour), SHAPES.index(shape)


_SINGLE: dict[str, Callable[[np.random.Generator], Task]] = {
    "pick_place": _pick_place, "push": _push, "stack": _stack, "open_drawer": _open_drawer,
    "close_drawer": _close_drawer, "put_in_drawer": _put_in_drawer,
}  # fmt: skip
_LONG: dict[str, Callable[[np.random.Generator], Task]] = {
    "sequence": _sequence, "sort": _sort, "tower": _tower, "clear": _clear, "swap": _swap,
}  # fmt: skip
_FAMILIES = _SINGLE | _LONG
SINGLE_FAMILIES = tuple(_SINGLE)
LONG_FAMILIES = tuple(_LONG)
GROUPS = {"single": SINGLE_FAMILIES, "long": LONG_FAMILIES}
WITHOUT_HELDOUT = ("open_drawer", "close_drawer")
TASKS = tuple(
    TaskSpec(name=family, group=group, splits=(SEEN,) if family in WITHOUT_HELDOUT else SPLITS)
    for group, families in GROUPS.items()
    for family in families
)
_MOST_SUBTASKS = {**dict.fromkeys(_SINGLE, 1), "sequence": 2, "sort": 3, "tower": 2, "clear": 4, "swap": 3}


def resolve_families(names: Sequence[str], split: str) -> tuple[str, ...]:
    """Names of families from names of families or groups. Groups leave out families without a variant in `split`."""
    return tuple(task.name for task in select_tasks(TASKS, names, split))


def sample_task(families: Sequence[str], split: str, rng: np.random.Generator) -> Task:
    """A random task of one of the families (uniform over them) in the given split."""
    names = resolve_families(families, split)
    make = _FAMILIES[names[int(rng.integers(len(names)))]]
    while True:
        task = make(rng)
        if task.split == split:
            return task


def most_subtasks(families: Sequence[str]) -> int:
    """Number of subtasks of the longest task of these families."""
    return max(_MOST_SUBTASKS[family] for family in families)


def sample_chain(split: str, rng: np.random.Generator) -> Task:
    """Six subtasks in one scene, of the kinds of single tasks; in split heldout at least one composition is held out.

    It is no family, because no instruction describes it. It serves to imagine far ahead.
    """
    while True:
        first, second, third = _choose(rng, OBJECTS, 3)
        here, there = _choose(rng, RECEPTACLES[:-1], 2)
        steps = (
            Subtask("put", first, here),
            Subtask("open"),
            Subtask("put", second, "drawer"),
            Subtask("close"),
            Subtask("put", third, there),
            Subtask("stack", first, third),
        )
        task = Task("chain", "; ".join(step.text for step in steps), steps, (first, second, third), (here, there))
        if task.split == split:
            return task


def all_sentences(n: int = 4000, seed: int = 0) -> list[str]:
    """Instructions and subtasks of n random tasks of both splits, to train a vocabulary."""
    rng = np.random.default_rng(seed)
    tasks = [_FAMILIES[name](rng) for name in list(_FAMILIES) * (n // len(_FAMILIES) + 1)]
    sentences = {task.instruction for task in tasks} | {step.text for task in tasks for step in task.subtasks}
    return sorted(sentences)
