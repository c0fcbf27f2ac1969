"""The weights that ship: whole, small, and able to do what is said of them."""

from contextlib import closing

import pytest

from emu_robot.models.weights import MANIFEST, RELEASED, load_file, load_weights, read_manifest, released_names
from emu_robot.planner.planner import Planner
from emu_sim.environment import TabletopEnvironment
from emu_sim.grammar import TABLETOP2

MOST_BYTES = 60_000_000
SCENES = range(9_500_000, 9_500_004)
"""Seeds of no training and no evaluation."""


def test_every_released_file_is_whole_and_all_are_small() -> None:
    assert released_names() == ["mini", "mini2"]
    total = 0
    for name in released_names():
        manifest = read_manifest(RELEASED / name)
        assert set(manifest["stages"]) == {"tokenizer", "planner", "head"}
        for stage in manifest["stages"]:
            load_weights(RELEASED / name, stage)
        for file in manifest["files"]:
            load_file(RELEASED / name, file)
        files = {MANIFEST, *manifest["files"], *(entry["file"] for entry in manifest["stages"].values())}
        assert {path.name for path in (RELEASED / name).iterdir()} == files, "nothing else is shipped"
        total += sum(path.stat().st_size for path in (RELEASED / name).iterdir())
    assert total < MOST_BYTES


@pytest.fixture(scope="module")
def planner() -> Planner:
    return Planner.load("mini2", int8=True)


def test_mini2_sees_and_plans_in_the_richer_world(planner: Planner) -> None:
    seen = right = things = 0
    with closing(TabletopEnvironment(families=("pick_place",), grammar=TABLETOP2)) as world:
        for seed in SCENES:
            observation = world.reset(seed)
            (found,) = planner.seen_objects(planner.images.encode_images(observation.images["front"][None]))
            names = {one.name for one in found}
            things += len(world.task.objects)
            seen += len(names & set(world.task.objects))
            plan = planner.plan(observation, world.instruction, max_steps=1)
            right += not plan.is_complete and plan.steps[0].subtask == world.subtasks[0]
    assert seen >= 0.6 * things and right >= len(SCENES) - 1
