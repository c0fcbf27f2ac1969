"""The released weights with their default decoder, which draws at random: the same seed gives the same plans."""

from pathlib import Path

import numpy as np
import pytest

from emu_robot.core import ActionChunk, Observation
from emu_robot.models.weights import resolve_weights
from emu_robot.planner.planner import Planner
from emu_robot.policy.action_decoder import ActionDecoder
from emu_robot.policy.config import PolicyConfig
from emu_robot.policy.emu_policy import EmuPolicy
from emu_sim.environment import TabletopEnvironment

SCENES = (("push", 10_000_001), ("open_drawer", 10_000_000))


@pytest.fixture(scope="module")
def folder() -> Path:
    return resolve_weights("mini")


@pytest.fixture(scope="module")
def scenes() -> list[tuple[str, Observation]]:
    found = []
    for family, seed in SCENES:
        environment = TabletopEnvironment([family])
        observation = environment.reset(seed)
        found.append((environment.instruction, observation))
        environment.close()
    return found


@pytest.fixture(scope="module", params=[True, False], ids=["int8", "float32"])
def planner(folder: Path, request: pytest.FixtureRequest) -> Planner:
    return Planner.load(folder, int8=request.param)


def subgoal(chunk: ActionChunk) -> np.ndarray:
    assert chunk.step is not None and chunk.step.subgoal is not None
    return chunk.step.subgoal


def test_asked_again_the_policy_plans_the_same_whatever_came_between(folder, planner, scenes):
    policy = EmuPolicy(ActionDecoder.load(folder), planner, PolicyConfig())

    def first(scene: int, seed: int) -> ActionChunk:
        instruction, observation = scenes[scene]
        policy.seed(seed)
        policy.reset(instruction)
        return policy.act(observation)

    asked = [first(0, 1), first(0, 1), first(1, 1), first(0, 1)]
    for again in (asked[1], asked[3]):
        np.testing.assert_array_equal(subgoal(asked[0]), subgoal(again))
        np.testing.assert_array_equal(asked[0].actions, again.actions)
    other = first(0, 2)
    assert not np.array_equal(subgoal(asked[0]), subgoal(other))
    policy.reset(scenes[0][0])  # the second episode of the same seed
    assert not np.array_equal(subgoal(policy.act(scenes[0][1])), subgoal(other))


def test_a_batch_plans_what_each_plans_alone(planner, scenes):
    images = [observation.images["front"] for _, observation in scenes]
    instructions, seeds = [instruction for instruction, _ in scenes], [5, 6]
    together = planner.next_steps(images, instructions, seeds)
    for (instruction, observation), seed, found in zip(scenes, seeds, together, strict=True):
        alone = planner.plan(observation, instruction, max_steps=1, seed=seed).steps[0]
        assert found.subtask == alone.subtask
        np.testing.assert_array_equal(found.subgoal, alone.subgoal)
