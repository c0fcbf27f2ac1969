"""Random places of objects at the start of an episode: apart, within the arm's reach and the camera's view."""

from dataclasses import dataclass, field

import numpy as np

from emu_sim.grammar import DRAWER, Grammar, Task
from emu_sim.scene import DRAWER_POS, DRAWER_TRAVEL, spots

TABLE_X = (0.37, 0.66)  # [m]
TABLE_Y = (-0.22, 0.13)  # [m]
KNOB_ZONE = (0.44, 0.09)  # nothing is placed where x and y both exceed these: the drawer opens there [m]
# Least distance along x and y [m]. The fingers open along y and need more room there.
OBJECT_GAP = (0.065, 0.10)
PLACE_GAP = (0.125, 0.125)
OBJECT_PLACE_GAP = (0.09, 0.115)
PUSH_RUN_UP = 0.08  # [m] behind the object
HAND_X, HAND_Y = (0.32, 0.70), (-0.30, 0.16)  # [m] where the hand can come down to push
BOX_MOST_Y = 0.10  # [m] nearer to the drawer the box would touch it
MAX_YAW = 0.3  # [rad]
EXTREME_MARGIN = 0.04  # [m] by which an extreme object leads all others
SIDES = {"leftmost": (1, -1), "rightmost": (1, 1), "nearest": (0, 1), "farthest": (0, -1)}
"""Side, as camera front shows it -> axis and direction."""


@dataclass(frozen=True)
class Layout:
    """Places of all movable parts at the start."""

    objects: dict[str, tuple[float, float, float]]
    """Object -> (x, y, yaw) [m, m, rad]."""
    places: dict[str, tuple[float, float]]
    """Receptacle -> (x, y) [m]."""
    drawer: float
    """Opening of the drawer [m]."""
    on: dict[str, str] = field(default_factory=dict)
    """Object -> receptacle or object on which it starts."""


def apart(xy: np.ndarray, others: list[np.ndarray], gap: tuple[float, float]) -> bool:
    """Whether a point (2,) [m] keeps the gap along x or y from each of the others."""
    return all(abs(xy[0] - o[0]) >= gap[0] or abs(xy[1] - o[1]) >= gap[1] for o in others)


def _spot(rng: np.random.Generator) -> np.ndarray:
    while True:
        xy = np.array([rng.uniform(*TABLE_X), rng.uniform(*TABLE_Y)])
        if not (xy[0] > KNOB_ZONE[0] and xy[1] > KNOB_ZONE[1]):
            return xy


def _try_layout(grammar: Grammar, task: Task, rng: np.random.Generator) -> Layout | None:
    places: dict[str, np.ndarray] = {}
    for place in task.places:
        for _ in range(30):
            xy = _spot(rng)
            if apart(xy, list(places.values()), PLACE_GAP) and not (place == "box" and xy[1] > BOX_MOST_Y):
                places[place] = xy
                break
        else:
            return None
    on = dict(task.on)
    objects: dict[str, np.ndarray] = {}
    for name in task.objects:
        if name in on:
            continue
        for _ in range(30):
            xy = _spot(rng)
            if apart(xy, list(places.values()), OBJECT_PLACE_GAP) and apart(xy, list(objects.values()), OBJECT_GAP):
                objects[name] = xy
                break
        else:
            return None
    if task.extreme is not None and not _leads(objects, *task.extreme):
        return None
    for name, base in on.items():
        objects[name] = _on(grammar, task, name, base, places | objects)
    yaws = dict(zip(task.objects, rng.uniform(-MAX_YAW, MAX_YAW, size=grammar.slots), strict=False))
    return Layout(
        objects={name: (float(objects[name][0]), float(objects[name][1]), float(yaws[name])) for name in task.objects},
        places={name: (float(xy[0]), float(xy[1])) for name, xy in places.items()},
        drawer=DRAWER_TRAVEL if task.drawer_open else 0.0,
        on=on,
    )


def _on(grammar: Grammar, task: Task, name: str, base: str, placed: dict[str, np.ndarray]) -> np.ndarray:
    """(2,) [m] where an object lies that starts on a receptacle or object: on the first spot that is left."""
    if base in task.objects:
        return placed[base]
    before = [other for other, place in task.on if place == base].index(name)
    centre = np.array([DRAWER_POS[0] + DRAWER_TRAVEL, DRAWER_POS[1]]) if base == DRAWER else placed[base]
    return centre + np.array([spots(grammar, base)[before], 0.0])


def _leads(objects: dict[str, np.ndarray], side: str, name: str) -> bool:
    axis, direction = SIDES[side]
    others = [xy[axis] * direction for other, xy in objects.items() if other != name]
    return objects[name][axis] * direction >= max(others) + EXTREME_MARGIN


def can_push(layout: Layout, task: Task) -> bool:
    """Whether the way of every push is free, from behind the object to the zone's centre."""
    for step in task.subtasks:
        if step.kind != "push":
            continue
        start = np.array(layout.objects[str(step.object)][:2])
        end = np.array(layout.places[str(step.target)])
        ahead = (end - start) / np.linalg.norm(end - start)
        behind = start - PUSH_RUN_UP * ahead
        inside = HAND_X[0] < behind[0] < HAND_X[1] and HAND_Y[0] < behind[1] < HAND_Y[1]
        others = [(xy[:2], 0.10) for name, xy in layout.objects.items() if name != step.object]
        others += [(xy, 0.125) for name, xy in layout.places.items() if not name.endswith("zone")]
        if not inside or any(_segment_distance(behind, end, np.array(xy)) < gap for xy, gap in others):
            return False
    return True


def _segment_distance(a: np.ndarray, b: np.ndarray, point: np.ndarray) -> float:
    t = np.clip((point - a) @ (b - a) / ((b - a) @ (b - a)), 0.0, 1.0)
    return float(np.linalg.norm(point - a - t * (b - a)))


def sample_layout(grammar: Grammar, task: Task, rng: np.random.Generator) -> Layout:
    """A random layout of the task's scene, by rejection sampling. Every task of the grammar has one."""
    while True:
        layout = _try_layout(grammar, task, rng)
        if layout is not None and can_push(layout, task):
            return layout
