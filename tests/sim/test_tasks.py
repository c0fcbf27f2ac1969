"""The grammars: enough instructions, clean splits, nothing that fixes what an instruction leaves open."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_sim import tasks
from emu_sim.grammar import (
    DRAWER,
    TABLETOP,
    TABLETOP2,
    TABLETOP2_FOLD1,
    Grammar,
    Subtask,
    Task,
    colour_of,
    place_kind,
    shape_of,
)
from emu_sim.layout import EXTREME_MARGIN, SIDES, sample_layout
from emu_sim.phrasings import PHRASINGS

GRAMMARS = [TABLETOP, TABLETOP2, TABLETOP2_FOLD1]
BOTH = pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda grammar: grammar.name)
FOLDS = pytest.mark.parametrize("grammar", GRAMMARS[1:], ids=lambda grammar: grammar.name)


def _sample(grammar: Grammar, family: str, split: str, n: int = 60) -> list[Task]:
    rng = np.random.default_rng(0)
    return [tasks.sample_task(grammar, [family], split, rng) for _ in range(n)]


def _families(grammar: Grammar, split: str = "seen") -> tuple[str, ...]:
    return grammar.resolve(["all"], split)


@BOTH
def test_many_distinct_instructions_with_paraphrases(grammar: Grammar) -> None:
    seen = {task.instruction for family in _families(grammar) for task in _sample(grammar, family, "seen")}
    assert len(seen) >= 200
    assert len({task.instruction.split()[0] for task in _sample(grammar, "pick_place", "seen")}) >= 3


def test_every_family_of_the_rich_world_has_five_to_eight_phrasings() -> None:
    assert set(_families(TABLETOP2)) <= set(PHRASINGS)
    assert all(5 <= len(set(phrasings)) <= 8 for phrasings in PHRASINGS.values())


@BOTH
def test_demonstrations_have_no_kept_composition_and_the_other_splits_only_their_own(grammar: Grammar) -> None:
    kept = [c.pairs | c.stacks for c in grammar.kept.values()]
    for split in grammar.splits:
        for family in _families(grammar, split):
            for task in _sample(grammar, family, split, 25):
                splits = set(grammar.compositions(task).values())
                assert splits == (set() if split == "seen" else {split})
                if split == "seen":
                    assert not any((s.object, s.target) in pairs for s in task.subtasks if s.kind != "stack"
                                   for pairs in [c.pairs for c in grammar.kept.values()])  # fmt: skip
    assert all(not a & b for a, b in pairwise(kept))


@FOLDS
def test_both_folds_keep_a_fifth_of_all_cells_each(grammar: Grammar) -> None:
    n_cells = len(grammar.objects) * len(grammar.receptacles)
    for kept in grammar.kept.values():
        assert abs(len(kept.pairs) / n_cells - 0.2) < 0.02
    assert TABLETOP2.kept["heldout"].pairs.isdisjoint(TABLETOP2_FOLD1.kept["heldout"].pairs)


@BOTH
def test_every_word_of_kept_tasks_is_also_seen(grammar: Grammar) -> None:
    words = {w for f in _families(grammar) for t in _sample(grammar, f, "seen", 200) for w in t.instruction.split()}
    for split in grammar.kept:
        for family in _families(grammar, split):
            for task in _sample(grammar, family, split, 25):
                assert set(task.instruction.split()) <= words


@FOLDS
def test_nothing_fixes_what_an_instruction_leaves_open(grammar: Grammar) -> None:
    """In training every shape goes with every (family, colour), and many objects with every (family, place).

    Only unnamed objects count. The mutual information says by how much family and colour would help to guess a shape.
    """
    shapes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    colours: dict[tuple[str, str], set[str]] = defaultdict(set)
    by_place: dict[tuple[str, str], set[str]] = defaultdict(set)
    for family in ("sort", "clear", "gather", "extreme", "transfer", "match"):
        for task in _sample(grammar, family, "seen", 1200):
            for step in task.subtasks:
                if step.object and step.object not in task.instruction:
                    colour, shape = colour_of(step.object), shape_of(step.object)
                    shapes[family, colour][shape] += 1
                    colours[family, shape].add(colour)
                    by_place[family, str(step.target)].add(step.object)
    assert all(set(seen) == set(grammar.shapes) for seen in shapes.values())
    assert all(seen == set(grammar.colours) for seen in colours.values())
    for (family, place), seen in by_place.items():
        assert len(seen) >= 10 and {shape_of(name) for name in seen} == set(grammar.shapes), (family, place)
        assert {colour_of(name) for name in seen} == set(grammar.colours), (family, place)
    assert _mutual_information(shapes) < 0.1


def _mutual_information(counts: dict[tuple[str, str], Counter[str]]) -> float:
    """[bit] that the condition tells about the value."""
    joint = np.array([[count[shape] for shape in TABLETOP2.shapes] for count in counts.values()], float)
    joint /= joint.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return float((joint * np.log2(np.where(joint > 0, joint / independent, 1))).sum())


@BOTH
def test_long_tasks_have_at_most_five_subtasks(grammar: Grammar) -> None:
    fewest = 1 if grammar.late_share else 2
    for family in grammar.groups["long"]:
        assert all(fewest <= len(task.subtasks) <= 5 for task in _sample(grammar, family, "seen"))


@BOTH
def test_most_subtasks_is_reached_and_never_passed(grammar: Grammar) -> None:
    for family in _families(grammar):
        longest = max(len(task.subtasks) for task in _sample(grammar, family, "seen", 100))
        assert longest == tasks.most_subtasks([family]), family


@BOTH
def test_every_object_and_receptacle_is_seen(grammar: Grammar) -> None:
    pairs = {(s.object, s.target) for t in _sample(grammar, "pick_place", "seen", 1500) for s in t.subtasks}
    assert {obj for obj, _ in pairs} == set(grammar.objects)
    assert {place for _, place in pairs} == set(grammar.places)


def _few(grammar: Grammar) -> Grammar:
    """The grammar with few names, so that random tasks often agree in scene and instruction."""
    objects = ("red cube", "green cube", "blue cube", "red can", "green post", "blue post", "red brick")
    places = ("bowl", "box", "plate", "red zone", "green zone")
    known = [name for name in objects if name in grammar.objects]
    return replace(grammar, objects=known, places=[place for place in places if place in grammar.places])


@pytest.mark.parametrize("grammar", [TABLETOP, _few(TABLETOP2)], ids=["tabletop", "tabletop2"])
def test_instruction_and_scene_say_what_comes_next(grammar: Grammar) -> None:
    """A planner sees the present: equal instructions in equal scenes must have the same next subtask.

    Families that need memory are marked, and do break the rule.
    """
    for family in _families(grammar):
        next_subtask: dict[tuple, str | None] = {}
        ambiguous, needs_memory = False, False
        for task in _sample(grammar, family, "seen", 1000):
            needs_memory |= task.needs_memory
            for scene, due in _moments(task):
                said = next_subtask.setdefault(scene, due)
                assert said == due or task.needs_memory, scene
                ambiguous |= said != due
        assert ambiguous == needs_memory, family


def _moments(task: Task) -> list[tuple[tuple, str | None]]:
    """(instruction and scene, due subtask) before each subtask and at the end."""
    where = dict.fromkeys(task.objects, "table") | dict(task.on)
    where[DRAWER] = "open" if task.drawer_open else "closed"
    moments = []
    for step in (*task.subtasks, None):
        on_table = frozenset(name for name, place in where.items() if place == "table")
        order = task.extreme if task.extreme and task.extreme[1] in on_table else None
        moments.append(((task.instruction, order, tuple(sorted(where.items()))), step and step.text))
        if step is not None:
            where[step.object or DRAWER] = step.target or {"open": "open", "close": "closed"}[step.kind]
    return moments


def test_unnamed_objects_are_the_ones_that_the_words_mean() -> None:
    """An independent reading of instructions and scenes finds the objects of the first step."""
    for task in _sample(TABLETOP2, "gather", "seen", 300):
        words = task.instruction.replace(_target(task), "").split()
        meant = [n for n in task.objects if any(_means(word, n) for word in words)]
        done = {name for name, place in task.on if place == _target(task)}
        assert [step.object for step in task.subtasks] == [n for n in _ordered(meant) if n not in done]
    for task in _sample(TABLETOP2, "transfer", "seen", 300):
        (source,) = [place for name, place in task.on if name == task.subtasks[0].object]
        assert source in task.instruction and [place for _, place in task.on].count(source) == 1
    for task in _sample(TABLETOP2, "match", "seen", 300):
        of = colour_of if "colour" in task.instruction else shape_of
        (step,) = task.subtasks
        twins = [name for name in task.objects if of(name) == of(str(step.object))]
        assert len(twins) == 2 and {dict(task.on).get(name) for name in twins} == {None, step.target}
        assert len({of(name) for name in task.objects}) == len(task.objects) - 1


def _means(word: str, name: str) -> bool:
    return word == colour_of(name) or word.removesuffix("s") == shape_of(name)


def _target(task: Task) -> str:
    return str(task.subtasks[0].target)


def _ordered(names: list[str]) -> list[str]:
    key = TABLETOP2.objects.index
    return sorted(names, key=lambda n: (TABLETOP2.colours.index(colour_of(n)), key(n)))


def test_an_extreme_object_leads_all_others_on_the_table() -> None:
    rng = np.random.default_rng(1)
    for task in _sample(TABLETOP2, "extreme", "seen", 40):
        assert task.extreme is not None
        (axis, direction), layout = SIDES[task.extreme[0]], sample_layout(TABLETOP2, task, rng)
        at = {name: direction * place[axis] for name, place in layout.objects.items()}
        others = [value for name, value in at.items() if name != task.extreme[1]]
        assert at[task.extreme[1]] >= max(others) + EXTREME_MARGIN


def test_tasks_begin_where_others_ended() -> None:
    starts = [task for family in ("clear", "tower", "sort") for task in _sample(TABLETOP2, family, "seen", 200)]
    on = {place_kind(place) for task in starts for _, place in task.on}
    assert {"drawer", "cube", "zone"} <= on and any(task.drawer_open for task in starts)
    whole = Task("clear", "clear it", (Subtask("open"), Subtask("put", "red can", DRAWER), Subtask("close")),
                 ("red can",), ("bowl",))  # fmt: skip
    later = whole.after(2)
    assert later.subtasks == whole.subtasks[2:] and later.drawer_open and later.on == (("red can", DRAWER),)


def test_counterfactuals_ask_for_something_else_in_the_same_scene() -> None:
    rng = np.random.default_rng(0)
    found = 0
    for family in ("pick_place", "gather", "transfer", "sort"):
        for task in _sample(TABLETOP2, family, "seen", 15):
            others = tasks.counterfactuals(TABLETOP2, task, "seen", rng, 2)
            found += len(others)
            for other in others:
                same = (task.objects, task.places, task.on, task.drawer_open)
                assert (other.objects, other.places, other.on, other.drawer_open) == same
                assert other.instruction != task.instruction and TABLETOP2.split_of(other) == "seen"
                taken = {place for name, place in task.on if name not in {s.object for s in other.subtasks}}
                assert other.family == "match" or not taken & {s.target for s in other.subtasks}
    assert found >= 60


def test_unknown_names_say_what_exists() -> None:
    with pytest.raises(UnknownNameError, match="unknown task 'juggle'; known: pick_place, push"):
        TABLETOP.resolve(["juggle"], "seen")
    with pytest.raises(UnknownNameError, match="unknown split 'test'; known: seen, heldout"):
        TABLETOP.resolve(["single"], "test")
    with pytest.raises(UnknownNameError, match="unknown split 'test'; known: seen, dev, heldout"):
        TABLETOP2.resolve(["single"], "test")
    with pytest.raises(InvalidValueError, match="task 'open_drawer' has no split 'heldout'; it has seen"):
        TABLETOP.resolve(["open_drawer"], "heldout")


def test_the_released_world_keeps_the_episodes_of_its_seeds() -> None:
    """Weights, results and data of `tabletop` belong to these episodes."""
    digest = hashlib.sha256()
    for split in TABLETOP.splits:
        for seed in range(150):
            rng = np.random.default_rng(seed)
            task = tasks.sample_task(TABLETOP, ["all"], split, rng)
            layout = sample_layout(TABLETOP, task, rng)
            numbers = [round(x, 9) for place in (*layout.objects.values(), *layout.places.values()) for x in place]
            digest.update(repr((task.instruction, [s.text for s in task.subtasks], numbers)).encode())
    assert digest.hexdigest()[:16] == "592eeea25e6ec2dc"
