"""What the tabletop claims of a failed episode, from the facts of its last ticks."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emu_robot import environments
from emu_sim.failures import TabletopFailures
from emu_sim.grammar import TABLETOP, Subtask
from emu_sim.suite import spec_of

DUE = Subtask("put", "red cube", "bowl")
START = {"red cube": (0.0, 0.0, 0.0), "blue can": (0.3, 0.0, 0.0)}


def watched(*ticks: dict[str, Any], closed: bool = True) -> TabletopFailures:
    """A watch that has seen these facts, tick by tick, on top of those before."""

    def placed(where: dict) -> dict:
        return {name: SimpleNamespace(pos=np.array(pos, float)) for name, pos in where.items()}

    def show(facts: dict[str, Any]) -> None:
        if "objects" in facts:
            world.objects = placed(facts["objects"])
        world.grasped = facts.get("grasped", world.grasped)
        environment.subtask = facts.get("subtask", environment.subtask)

    world = SimpleNamespace(objects=placed(START), grasped=None)
    environment: Any = SimpleNamespace(world=world, subtask=DUE)
    if ticks:
        show(ticks[0])
    watch = TabletopFailures(environment)
    for facts in ticks or ({},):
        show(facts)
        watch.after(np.zeros(8, np.float32) if closed else np.ones(8, np.float32))
    return watch


@pytest.mark.parametrize(
    ("watch", "kind"),
    [
        (watched(), "missed grasp"),
        (watched(closed=False), "no attempt"),
        (watched({"grasped": "red cube"}, {"grasped": None}), "dropped"),
        (watched({"grasped": "blue can"}, {"grasped": None}), "wrong object"),
        (watched({}, {"objects": START | {"blue can": (0.4, 0, 0)}}), "wrong object"),
        (watched({}, {"objects": START | {"red cube": (0.4, 0, 0)}}), "missed grasp"),
        (watched({"subtask": Subtask("push", "red cube", "red zone")}), None),
        (watched({"subtask": Subtask("open"), "grasped": "knob"}), None),
        (
            watched({"grasped": "blue can", "subtask": Subtask("open")}, {"grasped": None, "subtask": DUE}),
            "missed grasp",
        ),
    ],
)
def test_kinds_from_facts(watch: TabletopFailures, kind: str | None) -> None:
    said = watch.diagnose()
    assert (said and said[0]) == kind
    assert kind is None or kind in spec_of(TABLETOP).failure_kinds


def test_a_real_episode_of_doing_nothing_is_no_attempt() -> None:
    world: Any = environments.make("tabletop", "pick_place")
    world.reset(3, observe=False)
    watch, stay = world.failure_watch(), world.world.state
    for _ in range(5):
        world.step(stay, observe=False)
        watch.after(stay)
    assert watch.diagnose() == ("no attempt", world.subtasks[0])
    world.close()
