"""Failure kinds of the tabletop, from grasps, motions and gripper commands while the last open subtask was due."""

from typing import Protocol

import numpy as np

from emu_robot.core import Floats32
from emu_sim.grammar import Subtask
from emu_sim.world import World

MOVED_M = 0.05
SHUT = 0.5
"""A gripper command below this closes."""


class Watched(Protocol):
    """The parts of an environment that the watch needs."""

    world: World

    @property
    def subtask(self) -> Subtask | None: ...


class TabletopFailures:
    """Collects facts of the due subtask. The collection restarts when another subtask becomes due."""

    def __init__(self, environment: Watched) -> None:
        self._environment = environment
        self._enter()

    def after(self, action: Floats32) -> None:
        """Read the facts after one action."""
        world = self._environment.world
        if self._environment.subtask != self._due:
            self._enter()
        self._closed |= bool(action[-1] < SHUT)
        grasped = world.grasped
        if grasped is not None and grasped not in self._grasped:
            self._grasped.append(grasped)
        for name, thing in world.objects.items():
            if np.linalg.norm(thing.pos - self._start[name]) > MOVED_M:
                self._moved.add(name)

    def diagnose(self) -> tuple[str, str] | None:
        """(kind, detail) that the facts show; None if they explain nothing."""
        if self._due is None:
            return None
        due = self._due.text
        involved = due.replace("drawer", "drawer knob")
        others = [name for name in self._grasped if name not in involved]
        if not others and "drawer" not in due:  # a drawer carries its contents
            others = [name for name in sorted(self._moved) if name not in due]
        if others:
            return "wrong object", f"{others[0]} instead of: {due}"
        if self._due.kind not in ("put", "stack"):
            return None
        held = [name for name in self._grasped if name != "knob"]
        if held:
            return "dropped", f"{held[-1]}, due: {due}"
        return ("missed grasp" if self._closed else "no attempt"), due

    def _enter(self) -> None:
        self._due = self._environment.subtask
        self._start = {name: thing.pos for name, thing in self._environment.world.objects.items()}
        self._moved: set[str] = set()
        self._grasped: list[str] = []
        self._closed = False
