"""The tabletop under `lerobot-eval`: its names, seeds, instructions, processes and errors."""

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.spawn import get_preparation_data
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from lerobot.envs import close_envs, env_to_policy_features, make_env, make_env_config, preprocess_observation
from lerobot.processor import PolicyProcessorPipeline
from lerobot.scripts.lerobot_eval import eval_policy, rollout
from torch import nn

from emu_robot import environments
from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_robot.evaluation.config import EvalConfig
from emu_robot.lerobot import EmuTabletopEnv
from emu_robot.lerobot.checkpoint import to_lerobot
from emu_robot.lerobot.env import _anonymous_main
from emu_robot.lerobot.modeling_emu_robot import EmuRobotPolicy
from emu_sim.grammar import TABLETOP

ROOT = Path(__file__).parents[2]
IMAGE_KEYS = ["observation.images.front", "observation.images.wrist"]


@contextmanager
def made(config: EmuTabletopEnv, n: int = 2, use_async: bool = False) -> Iterator[dict[int, Any]]:
    """The suite's vector environments by task_id."""
    envs = make_env(config, n_envs=n, use_async_envs=use_async)
    try:
        yield envs["emu_tabletop"]
    finally:
        close_envs(envs)


class ExpertPolicy(nn.Module):
    """Plays each environment's expert; keeps what it was asked, once per control tick."""

    def __init__(self, envs: Any) -> None:
        super().__init__()
        self._envs = envs
        self.asked: list[list[str]] = []

    def reset(self) -> None:
        self.asked.clear()

    def select_action(self, batch: dict[str, Any]) -> torch.Tensor:
        self.asked.append(batch["task"])
        actions = [env.unwrapped.environment.expert().action() for env in self._envs._env.envs]
        return torch.from_numpy(np.stack(actions))


def test_each_family_is_a_task_unless_pooled() -> None:
    config = make_env_config("emu_tabletop", task="single,sort")
    assert isinstance(config, EmuTabletopEnv) and config.families == (*TABLETOP.groups["single"], "sort")
    with made(config, n=1) as envs:
        assert list(envs) == list(range(7))
        assert envs[0].call("task") == ("pick_place",) and envs[6].call("task") == ("sort",)
        assert [envs[i].call("_max_episode_steps")[0] for i in (0, 6)] == [180, 3 * 180]
    with made(EmuTabletopEnv(task="all", pooled=True), n=1) as envs:
        assert list(envs) == [0] and envs[0].call("_max_episode_steps") == (4 * 180,)
    assert EmuTabletopEnv(task="long", split="heldout").families == TABLETOP.groups["long"]


@pytest.mark.parametrize(("action_mode", "n_actions"), [("joint", 8), ("ee_delta", 4)])
def test_policies_are_promised_what_they_get(action_mode: str, n_actions: int) -> None:
    config = EmuTabletopEnv(task="push", action_mode=action_mode)
    promised = {key: feature.shape for key, feature in env_to_policy_features(config).items()}
    assert promised.pop("action") == (n_actions,)
    with made(config) as envs:
        assert envs[0].single_action_space.shape == (n_actions,)
        got = preprocess_observation(envs[0].reset(seed=[0, 1])[0])
    assert {key: tuple(value.shape[1:]) for key, value in got.items()} == promised
    assert sorted(promised) == [*IMAGE_KEYS, "observation.state"]


@pytest.mark.parametrize("use_async", [False, True])
def test_same_seed_same_episode_as_our_evaluation(use_async: bool) -> None:
    seeds = [3, 4]
    with made(EmuTabletopEnv(task="stack"), use_async=use_async) as envs:
        observation, _ = envs[0].reset(seed=seeds)
        instructions = list(envs[0].call("task_description"))
        later, *_ = envs[0].step(observation["agent_pos"])
    ours = environments.make("tabletop", "stack")
    for i, seed in enumerate(seeds):
        first = ours.reset(EvalConfig(tasks=["stack"]).episode_seed(seed))
        assert instructions[i] == ours.instruction
        then = ours.step(first.state).observation
        for vector, single in ((observation, first), (later, then)):
            np.testing.assert_array_equal(vector["agent_pos"][i], single.state)
            for camera, image in single.images.items():
                np.testing.assert_array_equal(vector["pixels"][camera][i], image)
    assert instructions[0] != instructions[1]
    ours.close()


def test_rollout_tells_each_episode_its_own_instruction_to_the_end() -> None:
    identity = PolicyProcessorPipeline(steps=[])
    with made(EmuTabletopEnv(task="open_drawer")) as envs:
        policy = ExpertPolicy(envs[0])
        answer = rollout(envs[0], policy, identity, identity, identity, lambda action: action, seeds=[0, 3])  # type: ignore[arg-type]
    assert answer["success"].any(dim=1).all()
    assert answer["reward"].sum(dim=1).tolist() == [1.0, 1.0]  # nothing after the end, though one ended earlier
    assert policy.asked[0] == ["open the drawer", "pull the drawer open"]
    assert all(asked == policy.asked[0] for asked in policy.asked)


def test_a_worker_process_needs_neither_lerobot_nor_torch() -> None:
    with made(EmuTabletopEnv(task="push")) as envs:
        make_one = cloudpickle.dumps(envs[0]._env_fns[0])
    code = "import sys; sys.modules.update(torch=None, lerobot=None, cloudpickle=None)\n"
    code += (
        f"import pickle; env = pickle.loads({make_one!r})(); env.reset(seed=0); print(env.unwrapped.task); env.close()"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.stdout == "push\n", answer.stderr[-2000:]
    assert pickle.loads(make_one).keywords["seed_offset"] == 10_000_000
    main = sys.modules["__main__"]
    with _anonymous_main():
        assert not {"init_main_from_path", "init_main_from_name"} & set(get_preparation_data("worker"))
    assert sys.modules["__main__"] is main


def test_bad_settings_name_what_exists() -> None:
    with pytest.raises(UnknownNameError, match="unknown task 'kitchen'; known: pick_place"):
        EmuTabletopEnv(task="push,kitchen")
    with pytest.raises(UnknownNameError, match="unknown task ''; known: pick_place"):
        EmuTabletopEnv(task=None)
    with pytest.raises(UnknownNameError, match="unknown split 'test'; known: seen, heldout"):
        EmuTabletopEnv(split="test")
    with pytest.raises(UnknownNameError, match="unknown action mode 'torque'; known: joint, ee_delta"):
        EmuTabletopEnv(action_mode="torque")
    with pytest.raises(InvalidValueError, match="fps is 30; the tabletop runs at 20 only"):
        EmuTabletopEnv(fps=30)
    with pytest.raises(InvalidValueError, match="seed_offset is -1; it must be at least 0"):
        EmuTabletopEnv(seed_offset=-1)


@pytest.mark.slow
def test_episodes_do_not_depend_on_how_many_are_played_at_once(tmp_path: Path) -> None:
    """The released planner and head, by what `lerobot-eval` calls for each task; the last batch of two is half used."""
    policy, identity = (
        EmuRobotPolicy.from_pretrained(to_lerobot("mini", tmp_path / "mini")),
        PolicyProcessorPipeline(steps=[]),
    )
    played = {}
    for at_once in (1, 2, 3):
        with made(EmuTabletopEnv(task="open_drawer"), n=at_once) as envs:
            steps: Any = (identity, identity, identity, lambda action: action)
            answer = eval_policy(envs[0], policy, *steps, n_episodes=3, start_seed=0, return_episode_data=True)
        actions, episode = answer["episodes"]["action"], answer["episodes"]["episode_index"]
        played[at_once] = [actions[episode == i] for i in range(3)]
        assert [one["seed"] for one in answer["per_episode"]] == [0, 1, 2]
        played[at_once, "ends"] = [(one["success"], one["sum_reward"]) for one in answer["per_episode"]]
    assert played[1, "ends"] == played[2, "ends"] == played[3, "ends"]
    for alone, pair, three in zip(played[1], played[2], played[3], strict=True):
        assert torch.equal(alone, pair) and torch.equal(alone, three)


@pytest.mark.slow
def test_lerobot_eval_runs_a_saved_policy(tmp_path: Path) -> None:
    from lerobot.policies import make_policy, make_pre_post_processors
    from lerobot.policies.act.configuration_act import ACTConfig

    small = {"dim_model": 32, "n_heads": 2, "dim_feedforward": 64, "n_encoder_layers": 1, "use_vae": False}
    config = ACTConfig(device="cpu", pretrained_backbone_weights=None, push_to_hub=False, **small)
    make_policy(config, env_cfg=EmuTabletopEnv()).save_pretrained(tmp_path / "act")
    for processor in make_pre_post_processors(config):
        processor.save_pretrained(tmp_path / "act")
    command = [sys.executable, "-m", "lerobot.scripts.lerobot_eval", f"--policy.path={tmp_path / 'act'}"]
    command += ["--policy.device=cpu", "--env.type=emu_tabletop", "--env.task=open_drawer,push", "--seed=0"]
    command += ["--env.discover_packages_path=emu_robot.lerobot", "--eval.n_episodes=2", "--eval.batch_size=2"]
    command += ["--eval.use_async_envs=true", "--eval.recording=true", f"--output_dir={tmp_path / 'out'}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr[-2000:]
    info = json.loads((tmp_path / "out/eval_info.json").read_text())
    assert [task["task_id"] for task in info["per_task"]] == [0, 1] and info["overall"]["n_episodes"] == 4
    assert (tmp_path / "out/recordings/emu_tabletop_1/env_1/meta/info.json").exists()
