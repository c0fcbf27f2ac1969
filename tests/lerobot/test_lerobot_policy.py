"""Our policy under LeRobot's contract: it learns, resumes exactly, is saved and loaded both ways, and acts."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import draccus
import numpy as np
import pytest
import torch
from policy_on_small_set import batch, made
from tiny_weights import SIZE, write_weights

from emu_robot.core import Plan, PlanStep
from emu_robot.errors import ConfigError, InvalidValueError, UnknownNameError
from emu_robot.lerobot.checkpoint import to_lerobot
from emu_robot.lerobot.configuration_emu_robot import EmuRobotConfig
from emu_robot.lerobot.modeling_emu_robot import EmuRobotPolicy
from emu_robot.models.weights import add_extra, read_manifest
from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.planner import Planner
from emu_robot.policy.config import ChunkConfig, GoalMode, PolicyConfig
from emu_robot.policy.emu_policy import EmuPolicy, load_policy
from emu_sim.environment import TabletopEnvironment

ROOT = Path(__file__).parents[2]
PLUGIN, SAMPLE = ROOT / "emu_robot/lerobot/plugin", ROOT / "datasets/tabletop_sample"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_it_takes_over_what_fits_and_learns(weights, dataset):
    policy, data = made(weights, dataset)
    assert policy.head.config.cameras == ["top", "side"] and policy.head.config.state_dim == 3
    assert policy.config.state_order == [1, 2, 0] == policy.config.action_order
    started = read_manifest(weights)["stages"]["head"]["config"]
    assert started["cameras"] == ["front", "wrist"]
    optimizer = torch.optim.AdamW(policy.get_optim_params(), lr=3e-3)
    rng, losses = np.random.default_rng(0), []
    policy.train()
    for _ in range(30):
        loss, parts = policy(batch(data, rng.integers(len(data), size=8).tolist()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(parts)
    assert {"flow", "keypose", "planner"} <= set(losses[0])
    for name in ("flow", "planner"):
        early, late = (np.mean([parts[name] for parts in part]) for part in (losses[:5], losses[-5:]))
        assert late < 0.9 * early, name


def test_the_same_samples_give_the_same_loss(weights, dataset):
    policy, data = made(weights, dataset)
    first, again, other = (policy(batch(data, rows))[0].item() for rows in ([0, 5, 30], [0, 5, 30], [5, 0, 31]))
    assert first == again != other


def test_a_checkpoint_loads_both_ways(weights, dataset, tmp_path):
    policy, data = made(weights, dataset, n_action_steps=4)
    policy.save_pretrained(tmp_path / "checkpoint")
    saved = json.loads((tmp_path / "checkpoint/config.json").read_text())
    assert saved["type"] == "emu_robot" and str(weights) not in json.dumps(saved)
    again = EmuRobotPolicy.from_pretrained(tmp_path / "checkpoint")
    state = policy.head.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.head.state_dict().items())
    seen = batch(data, [3, 40])
    seen = {key: value for key, value in seen.items() if key not in ("action", "index")}
    chunk = again.predict_action_chunk(seen)
    assert chunk.shape == (2, 16, 3)
    again.reset()
    actions = [again.select_action(seen) for _ in range(5)]
    assert torch.equal(torch.stack(actions[:4], 1), chunk[:, :4])
    ours = load_policy(tmp_path / "checkpoint")
    ours.reset("task 0")
    observation = again._observations(seen)[0]
    theirs = chunk[0, :4].numpy()[:, again.config.action_order]
    assert np.allclose(ours.act(observation).actions[:4], theirs, atol=1e-4)
    with pytest.raises(ConfigError, match="made without a dataset"):
        again(batch(data, [0]))
    assert saved["goal"] == "auto" and again.goal is GoalMode.PLANNER
    add_extra(tmp_path / "checkpoint", "head", goal="none")
    again = EmuRobotPolicy.from_pretrained(tmp_path / "checkpoint")
    again.select_action(seen)
    assert again.goal is GoalMode.NONE and again._planner is None
    config = EmuRobotConfig(**{**vars(again.config), "goal": "text"})
    assert EmuRobotPolicy.from_pretrained(tmp_path / "checkpoint", config=config).goal is GoalMode.TEXT


def test_training_goes_on_from_its_checkpoint(weights, dataset, tmp_path):
    policy, data = made(weights, dataset)
    policy.save_pretrained(tmp_path / "checkpoint")
    again = EmuRobotPolicy.from_pretrained(tmp_path / "checkpoint", config=policy.config, dataset_meta=data.meta)
    for part in ("head", "world_model"):
        state = getattr(policy, part).state_dict()
        assert all(torch.equal(value, state[name]) for name, value in getattr(again, part).state_dict().items())


def test_a_new_chunk_begins_with_what_is_left_of_the_last(weights, dataset):
    from lerobot.policies.rtc.configuration_rtc import RTCConfig

    policy, data = made(weights, dataset, goal="none", rtc_config=RTCConfig(execution_horizon=8))
    assert policy.supports_rtc()
    seen = batch(data, [3])
    free = policy.predict_action_chunk(seen)
    left = free[0, 4:] + 0.3
    policy.reset()
    bound = policy.predict_action_chunk(seen, inference_delay=3, prev_chunk_left_over=left)
    off = (bound[0, :12] - left).abs().mean(1)
    assert off[:3].max() < 1e-3 and off[-1] > 0.05
    policy.config.rtc_config = None
    with pytest.raises(ConfigError, match="rtc_config"):
        policy.predict_action_chunk(seen, inference_delay=3, prev_chunk_left_over=left)


def test_threads_have_episodes_of_their_own(weights, dataset):
    policy, data = made(weights, dataset)
    seen = [batch(data, [3]), batch(data, [40, 41])]

    def act(i: int) -> torch.Tensor:
        policy.reset()
        return torch.stack([policy.select_action(seen[i]) for _ in range(20)])

    alone = [act(i) for i in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(act, (0, 1)))
    assert all(torch.equal(*pair) for pair in zip(alone, together, strict=True))


def test_an_episode_draws_neither_from_its_batch_nor_from_those_before(weights, dataset):
    policy, data = made(weights, dataset, goal="none", chunk=ChunkConfig(noise_scale=1.0))
    first, second = batch(data, [3]), batch(data, [40])

    def actions(seen: dict[str, Any]) -> torch.Tensor:
        policy.reset()
        return torch.stack([policy.select_action(seen) for _ in range(20)])

    alone, other = actions(first), actions(second)
    together = actions(batch(data, [40, 3]))
    assert torch.equal(together[:, 1], alone[:, 0]) and torch.equal(together[:, 0], other[:, 0])
    assert torch.equal(actions(first), alone)
    policy.config.seed = 1
    assert not torch.equal(actions(first), alone)


def test_released_weights_plan_the_same_alone_and_in_a_batch(tmp_path):
    policy = EmuRobotPolicy.from_pretrained(to_lerobot("mini", tmp_path / "mini"))
    policy.config.save_predicted_video = True
    scenes = [scene(family) for family in ("push", "open_drawer")]

    def planned(*chosen: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The chunks, and the subgoal of the first scene."""
        seen = {key: torch.stack([scenes[i][key] for i in chosen]) for key in scenes[0] if key != "task"}
        policy.reset()
        chunks = policy.predict_action_chunk(seen | {"task": [scenes[i]["task"] for i in chosen]})
        return chunks, policy.last_predicted_latents

    both, turned = planned(0, 1), planned(1, 0)
    for i, (chunks, subgoal) in ((1, turned), (0, both)):
        chunk, alone = planned(i)
        assert subgoal is not None and alone is not None and torch.equal(subgoal, alone)
        assert torch.equal(chunk, chunks[:1])
    assert torch.equal(both[0], turned[0].flip(0))
    policy.config.seed = 1
    _, other = planned(0)
    assert other is not None and both[1] is not None and not torch.equal(other, both[1])


def scene(family: str) -> dict[str, Any]:
    """The tabletop as LeRobot would show it."""
    environment = TabletopEnvironment([family])
    observation = environment.reset(10_000_000)
    pictures = {
        f"observation.images.{camera}": torch.from_numpy(image.copy()).permute(2, 0, 1) / 255
        for camera, image in observation.images.items()
    }
    environment.close()
    return pictures | {"observation.state": torch.from_numpy(observation.state), "task": environment.instruction}


def test_every_knob_reaches_what_acts_and_comes_back_from_a_checkpoint(weights, dataset, tmp_path, monkeypatch):
    words = [f"--weights={weights}", "--replan.dwell=3", "--chunk.noise_scale=0.5", "--n_action_steps=4", "--seed=7"]
    typed = draccus.parse(EmuRobotConfig, None, [*words, "--device=cpu", "--push_to_hub=false"])
    assert typed.replan == ReplanConfig(dwell=3) and typed.chunk == ChunkConfig(noise_scale=0.5) and typed.seed == 7
    policy, data = made(weights, dataset, replan=typed.replan, chunk=typed.chunk, n_action_steps=4, seed=7)
    policy.save_pretrained(tmp_path / "checkpoint")
    again = EmuRobotPolicy.from_pretrained(tmp_path / "checkpoint")
    assert (again.config.replan, again.config.chunk, again.config.seed) == (typed.replan, typed.chunk, 7)
    used = []
    monkeypatch.setattr(
        "emu_robot.lerobot.modeling_emu_robot.EmuPolicy",
        lambda head, planner, config, seed: used.append(config) or EmuPolicy(head, planner, config, seed=seed),
    )
    again.select_action(batch(data, [3]))
    assert used == [PolicyConfig(n_action_steps=4, whole_chunks=True, replan=ReplanConfig(dwell=3), chunk=typed.chunk)]
    with pytest.raises(InvalidValueError, match="dwell is 0"):
        made(weights, dataset, replan=ReplanConfig(dwell=0))


def test_modules_to_shard_exist(weights, dataset):
    policy, _ = made(weights, dataset)
    present = {type(module).__name__ for module in policy.modules()}
    assert set(EmuRobotPolicy._fsdp_wrap_modules) <= present
    assert EmuRobotPolicy._no_split_modules == EmuRobotPolicy._fsdp_wrap_modules


class FixedPlanner:
    """Always the same next step."""

    def plan(self, observation, instruction, max_steps=None, *, seed=0, past=(), doubt=0.0):
        subgoal = np.full((SIZE, SIZE, 3), 77, np.uint8)
        return Plan(instruction=instruction, steps=(PlanStep(subtask="task 1", subgoal=subgoal),))


def test_imagined_subgoals_become_a_video(weights, dataset):
    policy, data = made(weights, dataset, save_predicted_video=True)
    policy._planner = cast(Planner, FixedPlanner())
    seen, latents = batch(data, [3]), []
    for _ in range(9):
        policy.select_action(seen)
        if policy.last_predicted_latents is not None:
            latents.append(policy.last_predicted_latents)
            policy.last_predicted_latents = None
    video = policy.decode_predicted_latents(torch.cat(latents, dim=2))
    assert video.shape == (16, SIZE, SIZE, 3) and video.dtype == np.uint8 and (video == 77).all()


def test_bad_settings_are_named(weights, dataset):
    with pytest.raises(ConfigError, match=r"n_action_steps is 17, must lie in 1\.\.16"):
        EmuRobotConfig(n_action_steps=17, device="cpu")
    with pytest.raises(ConfigError, match="goal is 'oracle', must be one of planner, text, none"):
        EmuRobotConfig(goal="oracle", device="cpu")
    with pytest.raises(ConfigError, match="at least one camera"):
        EmuRobotPolicy(EmuRobotConfig(device="cpu"))
    policy, data = made(weights, dataset)
    with pytest.raises(InvalidValueError, match="reduction is 'none'"):
        policy(batch(data, [0]), reduction="none")
    with pytest.raises(UnknownNameError, match="query_kind 'vqa'; known: next_subtask"):
        policy.generate_text(batch(data, [0]) | {"query_kind": ["vqa"]})
    with pytest.raises(InvalidValueError, match="one environment, not 2"):
        policy.generate_text(batch(data, [0, 1]))


def test_released_weights_act_in_lerobots_own_rollout(tmp_path):
    from lerobot.configs import PreTrainedConfig
    from lerobot.envs.factory import make_env, make_env_pre_post_processors
    from lerobot.policies.factory import make_policy, make_pre_post_processors
    from lerobot.scripts.lerobot_eval import eval_policy

    from emu_robot.lerobot.env import EmuTabletopEnv

    folder = to_lerobot("mini", tmp_path / "mini")
    settings = EmuTabletopEnv(task="open_drawer")
    config = PreTrainedConfig.from_pretrained(folder)
    config.pretrained_path = folder
    policy = make_policy(config, env_cfg=settings)
    pre, post = make_pre_post_processors(config, pretrained_path=str(folder))
    env = make_env(settings, n_envs=1)["emu_tabletop"][0]
    env_pre, env_post = make_env_pre_post_processors(env_cfg=settings, policy_cfg=config)
    info = eval_policy(env, policy, env_pre, env_post, pre, post, n_episodes=2, start_seed=0)
    env.close()
    assert info["aggregated"]["pc_success"] == 100.0


@pytest.mark.slow
def test_lerobot_train_resumes_exactly(weights, dataset, tmp_path):
    """The real commands: four steps in one go, and two and two."""
    settings = {
        "dataset.repo_id": "local/set", "dataset.root": dataset, "dataset.video_backend": "pyav",
        "policy.type": "emu_robot", "policy.weights": weights, "policy.planner_camera": "top",
        "policy.device": "cpu", "policy.push_to_hub": "false", "output_dir": tmp_path / "whole",
        "batch_size": 4, "steps": 4, "save_freq": 2, "num_workers": 0,
    }  # fmt: skip
    lerobot("train", **settings)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts", symlinks=True)
    checkpoints = tmp_path / "parts/checkpoints"
    shutil.rmtree(checkpoints / "000004")
    (checkpoints / "last").unlink()
    (checkpoints / "last").symlink_to("000002")
    config = checkpoints / "last/pretrained_model/train_config.json"
    config.write_text(config.read_text().replace(str(tmp_path / "whole"), str(tmp_path / "parts")))
    lerobot("train", config_path=config, resume="true")
    for stage in ("head", "planner"):
        file = f"checkpoints/000004/pretrained_model/{stage}.safetensors"
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


@pytest.mark.slow
def test_adapters_train_and_are_evaluated_by_the_commands(tmp_path):
    """On the sample, evaluated while they train; then two tasks at once."""
    settings = {
        "dataset.repo_id": "local/sample", "dataset.root": SAMPLE, "dataset.video_backend": "pyav",
        "policy.type": "emu_robot", "policy.weights": write_weights(tmp_path / "weights"), "policy.device": "cpu",
        "policy.cache_dir": tmp_path / "cache", "policy.push_to_hub": "false", "peft.method_type": "LORA",
        "peft.r": 4, "env.type": "emu_tabletop", "env.task": "open_drawer", "env_eval_freq": 2, "eval.n_episodes": 1,
        "output_dir": tmp_path / "out", "batch_size": 4, "steps": 4, "save_freq": 4, "num_workers": 0,
    }  # fmt: skip
    said = lerobot("train", **settings)
    assert said.count("Eval policy at step") == 2
    checkpoint = tmp_path / "out/checkpoints/last/pretrained_model"
    assert (checkpoint / "adapter_model.safetensors").exists() and not (checkpoint / "manifest.json").exists()
    evaluated = {
        "policy.path": checkpoint, "policy.device": "cpu", "env.type": "emu_tabletop", "env.task": "open_drawer,push",
        "env.max_parallel_tasks": 2, "eval.n_episodes": 2, "eval.batch_size": 1, "output_dir": tmp_path / "eval",
    }  # fmt: skip
    lerobot("eval", **evaluated)
    info = json.loads((tmp_path / "eval/eval_info.json").read_text())
    assert sorted(task["task_id"] for task in info["per_task"]) == [0, 1] and info["overall"]["n_episodes"] == 4


def lerobot(command: str, **settings: object) -> str:
    """Run one of LeRobot's commands; what it logged."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join([str(PLUGIN), *sys.path])}
    words = [sys.executable, "-W", "ignore", "-m", f"lerobot.scripts.lerobot_{command}"]
    words += [f"--{key}={value}" for key, value in settings.items()]
    answer = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]
    return answer.stderr
