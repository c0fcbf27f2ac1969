"""Where things stand at the start of an episode: random, apart from each other, within the arm's reach and the view."""

from dataclasses import dataclass

import numpy as np

from emu_sim.scene import DRAWER_TRAVEL, OBJECT_SLOTS
from emu_sim.tasks import Task

TABLE_X = (0.37, 0.64)  # [m]
TABLE_Y = (-0.25, 0.13)  # [m]
KNOB_ZONE = (0.44, 0.09)  # nothing is placed where x and y both exceed these: the drawer opens there [m]
# Least distance along x and y [m]; the fingers open along y and need more room there.
OBJECT_GAP = (0.065, 0.10)
PLACE_GAP = (0.125, 0.125)
OBJECT_PLACE_GAP = (0.09, 0.115)
MAX_YAW = 0.3  # [rad]


@dataclass(frozen=True)
class Layout:
    """objects: name -> (x, y, yaw) [m, m, rad]; places: name -> (x, y) [m]; drawer: opening [m]."""

    objects: dict[str, tuple[float, float, float]]
    places: dict[str, tuple[float, float]]
    drawer: float


def _apart(xy: np.ndarray, others: list[np.ndarray], gap: tuple[float, float]) -> bool:
    return all(abs(xy[0] - o[0]) >= gap[0] or abs(xy[1] - o[1]) >= gap[1] for o in others)


def _spot(rng: np.random.Generator) -> np.ndarray:
    while True:
        xy = np.array([rng.uniform(*TABLE_X), rng.uniform(*TABLE_Y)])
        if not (xy[0] > KNOB_ZONE[0] and xy[1] > KNOB_ZONE[1]):
            return xy


def _try_layout(task: Task, rng: np.random.Generator) -> Layout | None:
    places: dict[str, np.ndarray] = {}
    for place in task.places:
        for _ in range(30):
            xy = _spot(rng)
            if _apart(xy, list(places.values()), PLACE_GAP):
                places[place] = xy
                break
        else:
            return None
    on = dict(task.on)
    objects: dict[str, np.ndarray] = {}
    for name in task.objects:
        if name in on:
            objects[name] = places[on[name]]
            continue
        for _ in range(30):
            xy = _spot(rng)
            if _apart(xy, list(places.values()), OBJECT_PLACE_GAP) and _apart(xy, list(objects.values()), OBJECT_GAP):
                objects[name] = xy
                break
        else:
            return None
    yaws = rng.uniform(-MAX_YAW, MAX_YAW, size=OBJECT_SLOTS)
    return Layout(
        objects={name: (float(xy[0]), float(xy[1]), float(yaw)) for (name, xy), yaw in zip(objects.items(), yaws, strict=False)},
        places={name: (float(xy[0]), float(xy[1])) for name, xy in places.items()},
        drawer=DRAWER_TRAVEL if task.drawer_open else 0.0,
    )


def sample_layout(task: Task, rng: np.random.Generator) -> Layout:
    """A random layout of the task's scene (rejection sampling; the room suffices for every task of the grammar)."""
    while True:
        layout = _try_layout(task, rng)
        if layout is not None:
            return layout
