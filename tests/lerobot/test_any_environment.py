"""LeRobot's environments in our harness: names, tasks, worlds, and the same episodes as `lerobot-eval`."""

import json
from pathlib import Path
from typing import Any

import lerobot_env_toy
import numpy as np
import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.envs import close_envs, make_env
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.scripts.lerobot_eval import eval_policy_all, rollout

from emu_robot import environments
from emu_robot.config import load_config
from emu_robot.control.episode_loop import Subscriber, run_episode
from emu_robot.environments.contract import check_observation
from emu_robot.errors import (
    ConfigError,
    InvalidValueError,
    ShapeError,
    SystemSetupError,
    UnknownNameError,
    WeightsError,
)
from emu_robot.evaluation.config import EvalConfig
from emu_robot.evaluation.rollouts import evaluate
from emu_robot.lerobot.env_names import read_name
from emu_robot.lerobot.env_tasks import MT10, tasks_of
from emu_robot.lerobot.played import load_policy

ENVIRONMENTS = {"toy_line": 0.1, "pusht,episode_length=12": 150.0}
"""Name of an environment -> size of its random policy's actions."""


def write_act(folder: Path, env: str, spread: float) -> Path:
    """A small ACT with random weights for an environment, as LeRobot saves it."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "dim_model": 32,
        "n_heads": 2,
        "dim_feedforward": 64,
        "n_encoder_layers": 1,
        "chunk_size": 4,
    }
    config = ACTConfig(
        device="cpu", pretrained_backbone_weights=None, push_to_hub=False, use_vae=False, n_action_steps=4, **sizes
    )
    policy = make_policy(config, env_cfg=read_name(env).config)
    stats: dict[str, Any] = {}
    for key, feature in {**(config.input_features or {}), **(config.output_features or {})}.items():
        shape = feature.shape if len(feature.shape) == 1 else (3, 1, 1)
        middle = 250.0 if spread > 1 and len(feature.shape) == 1 else spread
        stats[key] = {"mean": torch.full(shape, middle), "std": torch.full(shape, 1.0 if len(shape) == 3 else spread)}
    policy.save_pretrained(folder)
    for processor in make_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, write_act(tmp_path_factory.mktemp("act"), request.param, ENVIRONMENTS[request.param])


def under_lerobot(env: str, folder: Path) -> tuple[Any, ...]:
    """What `lerobot-eval` makes of a name and a checkpoint: environments, policy, processors."""
    config, own = read_name(env).config, PreTrainedConfig.from_pretrained(folder)
    own.pretrained_path = folder
    policy = make_policy(own, env_cfg=config).eval()
    before, after = make_pre_post_processors(
        own, str(folder), preprocessor_overrides={"rename_observations_processor": {"rename_map": {}}}
    )
    return make_env(config, n_envs=1), policy, *config.get_env_processors(), before, after


def test_our_evaluation_and_lerobot_agree_episode_by_episode(played: tuple[str, Path], tmp_path: Path) -> None:
    env, folder = played
    envs, *parts = under_lerobot(env, folder)
    with torch.no_grad():
        theirs = eval_policy_all(envs, *parts, n_episodes=3, start_seed=1000)
    close_envs(envs)
    n_tasks = len(theirs["per_task"])
    words = [f"env=lerobot:{env}", f"policy=lerobot:{folder}", f"n={3 * n_tasks}", "seed=1000", "workers=0", "videos=1"]
    result = evaluate(load_config("eval", [*words, f"out={tmp_path / 'out'}"]))
    ours = json.loads(result.info.read_text())
    for one, other in zip(ours["per_task"], theirs["per_task"], strict=True):
        assert one["metrics"]["successes"] == other["metrics"]["successes"]
        for name in ("sum_rewards", "max_rewards"):
            assert one["metrics"][name] == pytest.approx(other["metrics"][name], rel=1e-12)
            assert len(set(one["metrics"][name])) > 1, "the episodes differ"
    assert ours["overall"]["avg_sum_reward"] == pytest.approx(theirs["overall"]["avg_sum_reward"])
    assert ours["seeds"] == {"first": 1000, "last": 1002} and list(ours["made_with"]["weights"]) == [
        "checkpoint",
        "lerobot",
    ]
    assert ours["command"].startswith(f"emu-robot eval policy=lerobot:{folder} env=lerobot:{env} split=seen tasks=all")
    if env == "toy_line":
        outcomes = {(record.success, record.ending) for record in result.records}
        assert outcomes == {(True, "success"), (False, "ended")}, "the comparison has both outcomes"


class Played(Subscriber):
    """Keeps the actions and states of an episode."""

    def __init__(self) -> None:
        self.actions, self.states = [], []

    def on_reset(self, instruction, seed, observation) -> None:
        self.states.append(observation.state)

    def on_transition(self, tick, action, transition) -> None:
        self.actions.append(action)
        self.states.append(transition.observation.state)


def test_every_action_and_state_is_lerobot_s(played: tuple[str, Path]) -> None:
    env, folder = played
    envs, policy, env_before, env_after, before, after = under_lerobot(env, folder)
    suite, ours = environments.suite(f"lerobot:{env}"), load_policy(str(folder))
    vector = next(iter(next(iter(envs.values())).values()))
    world = suite.open(suite.tasks[0].name, "seen")
    for number, seed in enumerate((7, 8)):
        with torch.no_grad():
            there = rollout(
                vector, policy, env_before, env_after, before, after, seeds=[seed], return_observations=True
            )
        log = Played()
        run_episode(
            world,
            ours,
            seed,
            [log],
            reset=lambda seed, number=number: world.reset_numbered(seed, number),  # type: ignore[attr-defined]
        )
        factor = 2 if env == "toy_line" else 1  # LeRobot's record has the action after the environment's processor
        np.testing.assert_array_equal(np.stack(log.actions), factor * there["action"][0].numpy())
        states = there["observation"]["observation.state"][0].numpy()
        np.testing.assert_array_equal(np.stack(log.states)[:-1], states[:-1])
    world.close()
    close_envs(envs)


def test_a_plugin_s_tasks_are_opened_one_at_a_time_and_closed() -> None:
    before = lerobot_env_toy.ToyEnv.alive
    suite = environments.suite("lerobot:toy_line,fps=20")
    assert [(task.name, task.group) for task in suite.tasks] == [("near", "line"), ("far", "line")]
    spec = suite.spec
    assert (spec.control_hz, spec.planner_camera, list(spec.cameras)) == (20, "top", ["top"])
    assert str(spec.cameras["top"]) == "48 x 32" and len(spec.layout.state_names) == 3
    assert spec.versions["lerobot"] and "is_success" in spec.success_rule
    assert lerobot_env_toy.ToyEnv.alive == before
    world = suite.open("far", "seen")
    assert lerobot_env_toy.ToyEnv.alive == before + 1
    assert (world.task_name, world.instruction, world.max_steps) == ("far", "go to the far mark", 40)
    first = world.reset(5)
    check_observation("toy", first, spec)
    assert first.images["top"][0, -1, 0] == int(127 + 100 * first.state[0]), "its own processor turns the picture"
    np.testing.assert_array_equal(world.reset(5).state, first.state)
    transition = world.step(np.array([0.2, 0.0], np.float32))
    assert transition.observation.state[0] == pytest.approx(first.state[0] + 0.1), "its own processor halves"
    assert transition.reward is not None and transition.ended is False
    ended = world.step(np.array([9.0, 0.0], np.float32))
    assert ended.ended and not ended.success and ended.observation.state[0] > 4, "the last view, not the next one"
    with pytest.raises(ShapeError, match=r"action: got \(3,\), expected \(2,\)"):
        world.step(np.zeros(3, np.float32))
    world.close()
    assert lerobot_env_toy.ToyEnv.alive == before


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("lerobot", UnknownNameError, "unknown LeRobot environment ''; known: aloha, .*pusht.*toy_line"),
        ("lerobot:pushit", UnknownNameError, "unknown LeRobot environment 'pushit'; known: .* did you mean 'pusht'"),
        ("lerobot:pusht,width=3", UnknownNameError, "unknown setting of lerobot:pusht 'width'; known: task, fps"),
        ("lerobot:pusht,fps=fast", ConfigError, "lerobot:pusht,fps=fast: .*fps"),
        ("lerobot:pusht/a,task=b", ConfigError, "task is given twice"),
        ("tabletop:pusht", InvalidValueError, "environment 'tabletop' takes no text after its name"),
    ],
)
def test_a_wrong_name_says_what_exists(name: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        environments.suite(name)


def test_what_cannot_be_built_is_told() -> None:
    for blind in ("state", "environment_state_agent_pos"):
        with pytest.raises(InvalidValueError, match="lerobot:pusht shows no pictures with these settings"):
            _ = environments.suite(f"lerobot:pusht,obs_type={blind}").spec
    with pytest.raises(UnknownNameError, match="unknown task of lerobot:metaworld 'fly-v3'; known: easy, medium"):
        _ = environments.suite("lerobot:metaworld/fly-v3").tasks
    robocasa = environments.suite("lerobot:robocasa")
    with pytest.raises(SystemSetupError, match=r"lerobot:robocasa lacks a package \(No module named 'robocasa'\)"):
        _ = robocasa.tasks


def test_meta_world_s_tasks_are_listed_without_a_simulator() -> None:
    every = tasks_of(read_name("metaworld"))
    counts = {group: sum(task.group == group for task in every) for group in dict.fromkeys(t.group for t in every)}
    assert counts == {"easy": 28, "medium": 11, "hard": 6, "very_hard": 5}
    assert [task.name for task in tasks_of(read_name("metaworld/MT10"))] == list(MT10)
    one, other = tasks_of(read_name("metaworld/assembly-v3,drawer-open-v3"))
    assert (one.group, other.group, one.config.task) == ("hard", "easy", "assembly-v3")


def test_policies_that_do_not_fit_are_refused(played: tuple[str, Path], tmp_path: Path) -> None:
    env, folder = played
    other = "pusht" if env == "toy_line" else "toy_line"
    what = r"action has|observation.state has|its cameras are"
    with pytest.raises(WeightsError, match=f"does not fit the environment: ({what})"):
        evaluate(EvalConfig(env=f"lerobot:{other}", policy=f"lerobot:{folder}", n=1, out=tmp_path / "out"))
    with pytest.raises(WeightsError, match="lerobot:nowhere is no folder of a LeRobot policy, nor on the hub"):
        evaluate(EvalConfig(env=f"lerobot:{env}", policy="lerobot:nowhere", n=1, out=tmp_path / "out"))
    with pytest.raises(ConfigError, match="goal has no effect: policy=lerobot:x is a policy with settings of its own"):
        load_config("eval", ["policy=lerobot:x", "goal=none"])
    assert not (tmp_path / "out").exists()
