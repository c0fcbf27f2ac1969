"""What can be asked for in a world: objects, receptacles, families of tasks, and the compositions kept from training.

`TABLETOP` is the world of the released weights, `TABLETOP2` a richer one. They share all code.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from emu_robot.environments.contract import SEEN, TaskSpec, select_tasks
from emu_robot.shared.words import folded

DEV, HELDOUT = "dev", "heldout"
"""Splits of compositions that demonstrations lack: to choose recipes on, and to report."""
DRAWER = "drawer"
CONTAINERS = ("bowl", "box", DRAWER)
"""Receptacles that an object lies in, not on."""
RESIDUES = {HELDOUT: 3, DEV: 1}
"""Residue of a split's cells modulo `MODULUS`, for fold 0."""
MODULUS = 5


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
                return f"put the {self.object} {preposition(str(self.target))} the {self.target}"
            case "push":
                return f"push the {self.object} to the {self.target}"
            case "stack":
                return f"stack the {self.object} on the {self.target}"
            case _:
                return f"{self.kind} the drawer"


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
    """(object, receptacle or object it starts on); other objects start at a free spot of the table."""
    extreme: tuple[str, str] | None = None
    """(side, object): of the objects on the table this one is clearly the leftmost, rightmost, nearest or farthest."""
    needs_memory: bool = False
    """Whether the next subtask follows only from the pictures before, not from instruction and present picture."""

    def after(self, n: int) -> "Task":
        """The same instruction in the scene that the first `n` subtasks leave."""
        on, is_open = dict(self.on), self.drawer_open
        for step in self.subtasks[:n]:
            if step.object is None:
                is_open = step.kind == "open"
            else:
                on[step.object] = str(step.target)
        return replace(self, subtasks=self.subtasks[n:], on=tuple(on.items()), drawer_open=is_open)


@dataclass(frozen=True, slots=True)
class Compositions:
    """Compositions that one split keeps from all others."""

    pairs: frozenset[tuple[str, str]]
    """(object, receptacle) of put and push."""
    stacks: frozenset[tuple[str, str]]
    """(top, bottom)."""
    orders: frozenset[tuple[str, ...]]
    """Kinds of the places of a sequence, in the order of its steps."""


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """Names, families and kept compositions of one world."""

    name: str
    """Name of the environment."""
    colours: tuple[str, ...]
    """Colours of objects and zones, in the order in which unnamed objects are handled."""
    shapes: tuple[str, ...]
    """Shapes of objects, see `scene.SHAPES`."""
    objects: tuple[str, ...]
    """Objects that tasks may draw; a cell's row is the place in this order."""
    places: tuple[str, ...]
    """Receptacles on the table that tasks may draw."""
    groups: Mapping[str, tuple[str, ...]] = field(hash=False)
    """Group -> its families, see `families.FAMILIES`."""
    kept: Mapping[str, Compositions] = field(hash=False)
    """Split -> its compositions. Demonstrations have none of them."""
    slots: int
    """Largest number of objects in a scene."""
    zone_spots: tuple[float, ...]
    """Places of objects on a zone, along x from its centre [m], in the order in which they are filled."""
    phrasings: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Family -> number of its phrasings in use; all of them if it is not named."""
    varied: tuple[str, ...] = ()
    """Families with a second kind of tasks, see `unnamed.VARIANTS`."""
    late_share: float = 0.0
    """Share of long tasks that begin after some of their subtasks, where an earlier episode ended."""
    occupied_share: float = 0.0
    """Share of objects without a part in the task that start on a free receptacle or in the open drawer."""

    @property
    def zones(self) -> tuple[str, ...]:
        return tuple(place for place in self.places if place.endswith("zone"))

    @property
    def receptacles(self) -> tuple[str, ...]:
        """All receptacles; a cell's column is the place in this order."""
        return (*self.places, DRAWER)

    @property
    def splits(self) -> tuple[str, ...]:
        return (SEEN, *self.kept)

    @property
    def tasks(self) -> tuple[TaskSpec, ...]:
        """Every family as a task of a suite."""
        return tuple(
            TaskSpec(name=family, group=group, splits=(SEEN,) if family in WITHOUT_CELLS else self.splits)
            for group, families in self.groups.items()
            for family in families
        )

    def resolve(self, names: Sequence[str], split: str) -> tuple[str, ...]:
        """Names of families from names of families or groups; groups leave out families without a variant in `split`.

        Raises `UnknownNameError` or `InvalidValueError`.
        """
        return tuple(task.name for task in select_tasks(self.tasks, names, split))

    def kept_words(self, step: Subtask) -> str | None:
        """The composition of this step, for instance "red can, drawer"; None if demonstrations may show it."""
        kept = any(_keeps(kept, step) for kept in self.kept.values())
        return f"{step.object}, {'on ' * (step.kind == 'stack')}{step.target}" if kept else None

    def compositions(self, task: Task) -> dict[str, str]:
        """The task's kept compositions in words, for instance "red can, drawer" -> the split that keeps them."""
        order = tuple(place_kind(step.target) for step in task.subtasks)
        found: dict[str, str] = {}
        for split, kept in self.kept.items():
            found |= {str(self.kept_words(step)): split for step in task.subtasks if _keeps(kept, step)}
            if task.family == "sequence" and order in kept.orders:
                found[", then ".join(order)] = split
        return found

    def split_of(self, task: Task) -> str | None:
        """The task's split; None if compositions of several splits meet in it."""
        splits = set(self.compositions(task).values())
        return splits.pop() if len(splits) == 1 else None if splits else SEEN

    def limited_to(self, task: Task) -> "Grammar":
        """The grammar that draws only objects and places of this task's scene; its kept compositions stay."""
        return replace(self, objects=task.objects, places=task.places, late_share=0.0, occupied_share=0.0)


WITHOUT_CELLS = ("open_drawer", "close_drawer")
"""Families without compositions, which only the split "seen" has."""


def subtasks_of(task: Task) -> dict[str, Subtask]:
    """Every subtask that can be said of the task's scene: its words, folded -> the subtask."""
    steps = [Subtask("open"), Subtask("close")]
    for name in task.objects:
        steps += [Subtask("put", name, place) for place in (*task.places, DRAWER)]
        steps += [Subtask("push", name, place) for place in task.places if place_kind(place) == "zone"]
        steps += [Subtask("stack", name, other) for other in task.objects if other != name]
    return {folded(step.text): step for step in steps}


def preposition(place: str) -> str:
    return "in" if place in CONTAINERS else "on"


def colour_of(name: str) -> str:
    return name.split()[0]


def shape_of(name: str) -> str:
    return name.split()[-1]


def place_kind(place: str | None) -> str:
    """The place without its colour."""
    return str(place).split()[-1]


def _keeps(kept: Compositions, step: Subtask) -> bool:
    pair = (str(step.object), str(step.target))
    return pair in kept.stacks if step.kind == "stack" else pair in kept.pairs


def cells(rows: Iterable[str], columns: Iterable[str], residue: int) -> frozenset[tuple[str, str]]:
    """Every fifth cell of the table, spread over rows and columns: (i + 2j) % 5 = residue."""
    pairs = product(enumerate(rows), enumerate(columns))
    return frozenset((a, b) for (i, a), (j, b) in pairs if a != b and (i + 2 * j) % MODULUS == residue)


def _objects(shapes: Sequence[str], colours: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{colour} {shape}" for shape, colour in product(shapes, colours))


def _tabletop() -> Grammar:
    colours, shapes = ("red", "green", "blue", "yellow"), ("cube", "can")
    objects, places = _objects(shapes, colours), ("bowl", "plate", *(f"{colour} zone" for colour in colours))
    residue = RESIDUES[HELDOUT]
    heldout = Compositions(
        pairs=cells(objects, (*places, DRAWER), residue),
        stacks=cells(objects, objects, residue),
        orders=frozenset({("plate", "bowl"), ("zone", "plate")}),
    )
    return Grammar(
        name="tabletop",
        colours=colours,
        shapes=shapes,
        objects=objects,
        places=places,
        groups={
            "single": ("pick_place", "push", "stack", "open_drawer", "close_drawer", "put_in_drawer"),
            "long": ("sequence", "sort", "tower", "clear", "swap"),
        },
        kept={HELDOUT: heldout},
        slots=3,
        zone_spots=(0.0, 0.049, -0.049),
        phrasings={
            "pick_place": 4, "push": 3, "stack": 2, "open_drawer": 2, "close_drawer": 2, "put_in_drawer": 3,
            "sequence": 2, "sort": 2, "tower": 2, "clear": 2, "swap": 2,
        },
    )  # fmt: skip


def _tabletop2(fold: int) -> Grammar:
    """fold: rotation of the kept cells, 0 to 4."""
    colours, shapes = ("red", "green", "blue", "yellow", "cyan", "magenta"), ("brick", "can", "cube", "post")
    objects = _objects(shapes, colours)
    # In this order no object is kept from both the box and the drawer, so that clearing shows every object.
    places = ("bowl", "box", "plate", *(f"{colour} zone" for colour in colours))
    kinds = ("bowl", "box", "plate", "zone")
    kept = {
        split: Compositions(
            pairs=cells(objects, (*places, DRAWER), (residue + fold) % MODULUS),
            stacks=cells(objects, objects, (residue + fold) % MODULUS),
            orders=cells(kinds, kinds, (residue + fold) % MODULUS),
        )
        for split, residue in reversed(RESIDUES.items())
    }
    return Grammar(
        name="tabletop2" + f"_fold{fold}" * bool(fold),
        colours=colours,
        shapes=shapes,
        objects=objects,
        places=places,
        groups={
            "single": (
                "pick_place", "push", "stack", "open_drawer", "close_drawer", "put_in_drawer",
                "extreme", "transfer", "match",
            ),
            "long": ("sequence", "sort", "tower", "clear", "swap", "gather", "undo"),
        },
        kept=kept,
        slots=4,
        zone_spots=(-0.031, 0.031),
        varied=("sort", "clear"),
        late_share=0.25,
        occupied_share=0.3,
    )  # fmt: skip


TABLETOP, TABLETOP2, TABLETOP2_FOLD1 = _tabletop(), _tabletop2(0), _tabletop2(1)
