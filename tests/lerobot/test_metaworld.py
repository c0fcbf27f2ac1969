"""Meta-World with small pictures: LeRobot's steps to the bit, true subtasks, scripted experts."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot.envs.metaworld import TASK_POLICY_MAPPING
from PIL import Image as PillowImage

from emu_robot import environments
from emu_robot.data.collect import CollectConfig, collect
from emu_robot.data.expert_demonstration import DWELL, record_episode
from emu_robot.environments.capabilities import HasExpert, HasSubtasks, Renders, RendersOnDemand
from emu_robot.environments.contract import Suite, check_observation
from emu_robot.errors import ConfigError, ShapeError, UnknownNameError
from emu_robot.evaluation.config import EvalConfig
from emu_robot.lerobot.env_world import LeRobotWorld
from emu_robot.lerobot.metaworld_subtasks import HELD, STEPS, Progress, phase_of, progress_of
from emu_robot.lerobot.metaworld_world import MetaworldWorld

SUITE = "lerobot:metaworld/MT50,image_size=128"


@pytest.fixture(scope="module")
def suite() -> Suite:
    return environments.suite(SUITE)


@pytest.fixture
def world(request: pytest.FixtureRequest, suite: Suite) -> Iterator[MetaworldWorld]:
    opened = suite.open(getattr(request, "param", "handle-press-v3"), "seen")
    assert isinstance(opened, MetaworldWorld)
    yield opened
    opened.close()


def compare(task: str, seeds: dict[int, int]) -> int:
    """Step both worlds with the expert's actions, some of them random. Returns the number of successes.

    seeds: seed -> most steps. LeRobot's world renders its first picture only, to save minutes.
    """
    theirs = environments.suite(f"lerobot:metaworld/{task}").open(task, "seen")
    ours = environments.suite(f"lerobot:metaworld/{task},image_size=128").open(task, "seen")
    assert isinstance(theirs, LeRobotWorld) and isinstance(ours, MetaworldWorld)
    assert (ours.instruction, ours.max_steps) == (theirs.instruction, theirs.max_steps)
    rng, successes = np.random.default_rng(0), 0
    with closing(theirs), closing(ours):
        assert_same_view(ours.reset(0).images["image"], theirs.reset(0).images["image"])
        show_nothing(theirs)
        for seed, limit in seeds.items():
            np.testing.assert_array_equal(ours.reset(seed).state, theirs.reset(seed).state)
            expert = ours.expert()
            for t in range(limit):
                action = expert.action() if t % 4 else rng.uniform(-2, 2, 4).astype(np.float32)
                mine, their = ours.step(action, observe=t % 3 == 0), theirs.step(action)
                np.testing.assert_array_equal(mine.observation.state, their.observation.state)
                assert (mine.reward, mine.success, mine.ended) == (their.reward, their.success, their.ended)
                if mine.ended:
                    successes += mine.success
                    break
    return successes


def show_nothing(world: LeRobotWorld) -> None:
    """Let LeRobot's environment give blank pictures from now on."""
    raw: Any = world._env.envs[0].unwrapped
    raw._env.render = lambda: np.zeros((480, 480, 3), np.uint8)


def assert_same_view(small: np.ndarray, large: np.ndarray) -> None:
    """The picture shows what LeRobot's shows, apart from light: nearer to it than to any mirrored one."""
    assert small.shape == (128, 128, 3) and large.shape == (480, 480, 3)
    shrunk = np.asarray(PillowImage.fromarray(large).resize((128, 128), PillowImage.Resampling.BOX)).astype(float)
    distance = np.abs(small - shrunk).mean()
    assert distance < 12
    assert all(np.abs(turned - shrunk).mean() > 2 * distance for turned in (small[::-1], small[:, ::-1]))


def test_every_step_is_lerobot_s() -> None:
    assert compare("handle-press-v3", {1001: 80, 1000: 5}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("task", STEPS)
def test_every_step_of_every_task_is_lerobot_s(task: str) -> None:
    compare(task, {1000: 100, 7: 20, 2_000_000: 20})


def test_a_seed_alone_determines_the_episode(world: MetaworldWorld) -> None:
    first = [world.reset(3, observe=False).state, play(world, 10)]
    assert world.step(np.ones(4, np.float32)).observation.images["image"].shape == (128, 128, 3)
    world.reset(4, observe=False)
    play(world, 500)
    again = [world.reset(3, observe=False).state, play(world, 10)]
    np.testing.assert_array_equal(np.stack(first), np.stack(again))


def play(world: MetaworldWorld, most: int) -> np.ndarray:
    """Let the expert play until the end or `most` steps; the last state."""
    expert, state = world.expert(), np.zeros(4, np.float32)
    for _ in range(most):
        transition = world.step(expert.action(), observe=False)
        state = transition.observation.state
        assert not transition.observation.images
        if transition.ended:
            break
    return state


def test_the_world_has_what_the_harness_asks_for(world: MetaworldWorld, suite: Suite) -> None:
    for capability in (RendersOnDemand, Renders, HasSubtasks, HasExpert):
        assert isinstance(world, capability)
    check_observation("metaworld", world.reset(1), suite.spec)
    assert world.render("image", 64).shape == (64, 64, 3) and world.render("image", 9999).shape == (480, 480, 3)
    layout = suite.spec.layout
    assert (layout.gripper_command(1.0), layout.rates.tolist()) == (-1.0, [True, True, True, False])
    assert suite.spec.control_hz == 80 and {"lerobot", "metaworld", "mujoco"} <= set(suite.spec.versions)
    with pytest.raises(ShapeError, match=r"action: got \(3,\), expected \(4,\)"):
        world.step(np.zeros(3, np.float32))
    with pytest.raises(UnknownNameError, match="unknown camera 'top'; known: image"):
        world.render("top", 64)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("metaworld/MT10,image_size=8", ConfigError, "image_size is 8, must be a whole number in \\[16, 480\\]"),
        ("metaworld/MT10,image_size=big", ConfigError, "image_size is big, must be a whole number"),
        ("metaworld/MT10,image_size=64,obs_type=pixels", ConfigError, "needs obs_type=pixels_agent_pos, got pixels"),
        ("pusht,image_size=64", UnknownNameError, "unknown setting of lerobot:pusht 'image_size'"),
    ],
)
def test_wrong_sizes_are_told(text: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        environments.suite(f"lerobot:{text}")


def test_every_task_has_subtasks_whose_phases_are_those_of_its_policy() -> None:
    assert set(STEPS) == set(TASK_POLICY_MAPPING)
    for task, steps in STEPS.items():
        phases = "".join(digits for _, digits in steps)
        assert len(set(phases)) == len(phases), f"{task}: a phase belongs to one subtask"
        assert len(steps) in ((1,) if task in ("reach-v3", "soccer-v3") else (2, 3, 4))
        policy = TASK_POLICY_MAPPING[task]()
        phase = phase_of(policy)
        found = {phase(state) for state in np.random.default_rng(0).uniform(-0.2, 0.9, (300, 39))}
        assert found <= {int(digit) for digit in phases}, task


@pytest.mark.parametrize("world", ["drawer-open-v3", "assembly-v3", "pick-place-v3"], indirect=True)
def test_the_expert_does_the_subtasks_in_order(world: MetaworldWorld) -> None:
    world.reset(1_000_003, observe=False)
    expert, done_at, t = world.expert(), [], 0
    assert world.subtask_index == 0
    while len(done_at) < len(world.subtasks):
        transition, t = world.step(expert.action(), observe=False), t + 1
        assert transition.subtasks_done == tuple(i < world.subtask_index for i in range(len(world.subtasks)))
        done_at += [t] * (world.subtask_index - len(done_at))
        assert transition.success == (world.subtask_index == len(world.subtasks))
        assert t < world.max_steps
    assert min(np.diff([0, *done_at])) >= 3, "each takes a while"


def test_a_demonstration_holds_still_after_a_subtask(world: MetaworldWorld) -> None:
    episode = record_episode(world, 1_000_000, split="seen", noise=0.1, burst_probability=0.0, image_every=1)
    episode.validate()
    assert episode.success and episode.subtasks == ("move above the handle", "press the handle down")
    assert episode.images["image"].shape == (len(episode), 128, 128, 3)
    for keyframe in episode.keyframes:
        dwell = episode.action[keyframe : keyframe + DWELL + 1]
        assert (dwell[:, :3] == 0).all() and (dwell[:, 3] == episode.action[keyframe - 1, 3]).all()
    assert np.abs(episode.action).max() <= 1


def test_seeds_of_demonstrations_and_evaluations_are_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed=999999: evaluations of env=lerobot:.* use seeds below 1000000"):
        collect(CollectConfig(env=SUITE, seed=999_999, n=1, out=tmp_path / "out", lerobot=False))
    config = EvalConfig(env="lerobot:metaworld/push-v3,image_size=128", policy="expert", seed=999_998)
    assert config.episode_seed(1) == 999_999
    with pytest.raises(ConfigError, match="seed=999998: demonstrations of env=.* use seeds from 1000000"):
        config.episode_seed(2)
    assert not (tmp_path / "out").exists()


def test_a_phase_counts_once_it_has_lasted() -> None:
    phases = iter([0, *[1] * (HELD - 1), 0, *[1] * HELD, 0, 2, 2])
    progress = Progress(steps=(("reach", "0"), ("pull", "12")), phase=lambda _state: next(phases))
    seen = []
    for _ in range(2 * HELD + 1):
        progress.update(np.zeros(39), success=False)
        seen.append(progress.n_done)
    assert seen == [0] * (2 * HELD) + [1]
    for success in (False, False, True):
        progress.update(np.zeros(39), success=success)
    assert progress.done == (True, True)
    with pytest.raises(UnknownNameError, match="unknown task with subtasks 'fly-v3'; known: assembly-v3"):
        progress_of("fly-v3", None)
