"""Episodes without motion: the scene at the start and what every subtask leaves, seen by the planner's camera."""

import numpy as np

from emu_robot.core import Fact, Floats
from emu_robot.environments.capabilities import Moment, MomentKind
from emu_robot.robots.spec import PANDA
from emu_sim.grammar import DRAWER, Subtask, Task, preposition
from emu_sim.layout import Layout
from emu_sim.outcomes import Outcomes
from emu_sim.predicates import CLOSED

UNDERWAY_SHARE = 0.5
"""Share of disturbances that show the arm on its way; the others are attempts."""
NOTHING_SHARE = 0.35
"""Share of attempts that change nothing; after the others the object lies beside its place."""
ARM_SHARE = 0.5
"""Share of attempts after which the arm is still over the table."""


def lay_out(outcomes: Outcomes, task: Task, layout: Layout, rng: np.random.Generator, disturbed: float) -> list[Moment]:
    """The moments of a task in order. disturbed: share of the subtasks with an attempt or a moment under way."""
    outcomes.begin(layout, rng)
    moments = [_moment(outcomes, MomentKind.START)]
    for step in task.subtasks:
        if rng.random() < disturbed:
            moments.append(_disturbance(outcomes, step, rng))
        outcomes.complete(step)
        moments.append(_moment(outcomes, MomentKind.KEYFRAME))
    return moments


def _disturbance(outcomes: Outcomes, step: Subtask, rng: np.random.Generator) -> Moment:
    if rng.random() < UNDERWAY_SHARE:
        before = outcomes.world.save()
        outcomes.reach(step)
        moment = _moment(outcomes, MomentKind.UNDERWAY)
        outcomes.world.restore(before)
        return moment
    if rng.random() < NOTHING_SHARE or not outcomes.drop(step):
        outcomes.nothing()
    if rng.random() < ARM_SHARE:
        outcomes.hover(step)
    return _moment(outcomes, MomentKind.ATTEMPT)


def _moment(outcomes: Outcomes, kind: MomentKind) -> Moment:
    world, camera = outcomes.world, PANDA.planner_camera
    is_open, on = world.drawer_opening > CLOSED, outcomes.on

    def fact(place: str, pos: Floats, is_visible: bool = True) -> Fact:
        u, v = world.pixel(camera, pos)
        return Fact(place, round(u, 1), round(v, 1), is_visible)

    facts = {DRAWER: fact("open" if is_open else "closed", world.knob_pos)}
    for name, thing in world.objects.items():
        base = on.get(name, "table")
        facts[name] = fact(f"{preposition(base)} the {base}", thing.pos, is_open or base != DRAWER)
    return Moment(kind=kind, image=world.render(camera), state=world.state, facts=facts)
