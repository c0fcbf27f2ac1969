"""Success as predicates on the simulator's state, for a subtask and for the end of a task."""

import numpy as np

from emu_sim import scene
from emu_sim.grammar import Subtask, Task
from emu_sim.world import World

OPENED, CLOSED = 0.115, 0.012  # [m] of the drawer's 0.14 m travel
ORDERED = ("sequence",)
"""Families whose instruction names the order of steps that could be done in another one."""


def _rests_at(world: World, name: str, place: str) -> bool:
    thing = world.objects[name]
    dx, dy, dz = thing.pos - world.place_pos(place)
    bottom = dz - thing.half_height
    match place:
        case "bowl":
            return float(np.hypot(dx, dy)) < 0.045 and bottom < 0.03
        case "plate":
            return float(np.hypot(dx, dy)) < 0.05 and bottom < 0.02
        case "box":
            return abs(dx) < scene.BOX_HALF[0] and abs(dy) < scene.BOX_HALF[1] and bottom < 0.02
        case "drawer":
            return abs(dx) < scene.TRAY_HALF[0] and abs(dy) < scene.TRAY_HALF[1] and bottom < 0.03
        case _:
            return max(abs(dx), abs(dy)) < scene.ZONE_HALF and bottom < 0.01


def _rests_on(world: World, top: str, bottom: str) -> bool:
    upper, lower = world.objects[top], world.objects[bottom]
    gap = (upper.pos[2] - upper.half_height) - (lower.pos[2] + lower.half_height)
    return float(np.hypot(*(upper.pos - lower.pos)[:2])) < 0.03 and abs(gap) < 0.01


def subtask_holds(world: World, subtask: Subtask) -> bool:
    """Whether the subtask's result holds and the gripper is free."""
    touching = world.touching()
    match subtask.kind:
        case "open":
            return world.drawer_opening > OPENED and touching.get("knob", 0) < 2
        case "close":
            return world.drawer_opening < CLOSED and touching.get("knob", 0) < 2
        case _:
            name, target = str(subtask.object), str(subtask.target)
            check = _rests_on if subtask.kind == "stack" else _rests_at
            return touching.get(name, 0) == 0 and check(world, name, target)


def final_goals(task: Task) -> tuple[Subtask, ...]:
    """The subtasks with results that must hold at the end, because no later subtask undoes them."""

    def undone(index: int, step: Subtask) -> bool:
        later = task.subtasks[index + 1 :]
        if step.kind in ("open", "close"):
            return any(other.kind in ("open", "close") for other in later)
        return any(other.object == step.object for other in later)

    return tuple(step for index, step in enumerate(task.subtasks) if not undone(index, step))


class Achievement:
    """How far a task is achieved: its subtasks in order, and what must hold at the end."""

    def __init__(self, world: World, task: Task) -> None:
        self._world, self._task, self._goals = world, task, final_goals(task)
        self._held = self._holding()
        self._achieved = 0
        self._is_early = False

    def update(self) -> None:
        """Read the world's present state. Call it at every tick."""
        holding, steps = self._holding(), self.n_subtasks
        begun = [i for i in range(steps) if holding[i] and not self._held[i]]
        self._is_early |= any(i > self._achieved for i in begun)
        if self._achieved < steps and holding[self._achieved]:
            self._achieved += 1
        self._held = holding

    @property
    def n_subtasks(self) -> int:
        return len(self._task.subtasks)

    @property
    def is_done(self) -> bool:
        """Whether all is achieved and still holds; if the instruction names an order, without a later step before."""
        in_order = not (self._is_early and self._task.family in ORDERED)
        achieved = self._achieved == self.n_subtasks
        return achieved and in_order and all(subtask_holds(self._world, goal) for goal in self._goals)

    def _holding(self) -> list[bool]:
        return [subtask_holds(self._world, step) for step in self._task.subtasks]
