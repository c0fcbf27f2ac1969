import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import toy

from emu_robot.core import ActionChunk, Observation, PlanStep
from emu_robot.data import expert_demonstration, ordered_commits
from emu_robot.data.collect import CollectConfig, collect
from emu_robot.data.expert_demonstration import DWELL, record_episode
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError, DataError, InvalidValueError, SystemSetupError

PROGRAM = Path(__file__).parent / "toy_collect.py"


def config(out: Path, **changes) -> CollectConfig:
    defaults = {"env": "toy_arm", "families": ("touch",), "n": 6, "workers": 1, "image_every": 4, "lerobot": False}
    return CollectConfig(out=out, **(defaults | changes))


def contents(path: Path) -> dict:
    buffer = ReplayBuffer.open(path)
    names = ["frames/state", "frames/action", "frames/episode", "frames/subtask", "images/frame", "images/front"]
    names += ["images/wrist", "episodes/end", "episodes/image_end"]
    dropped = json.loads((path / "collection.json").read_text())["failed"]
    return {name: buffer.load(name).tolist() for name in names} | {"meta": list(buffer.metadata), "dropped": dropped}


def command(out: Path, n: int, workers: int, delay: float = 0.0) -> list[str]:
    return [sys.executable, str(PROGRAM), str(out), str(n), str(workers), str(delay)]


def test_records_successes_only_and_reports_the_failed_seed(tmp_path, capsys):
    buffer = ReplayBuffer.open(collect(config(tmp_path / "buffer")))
    assert [meta["seed"] for meta in buffer.metadata] == [0, 1, 2, 4, 5]  # the toy's seed 3 cannot be solved
    assert "kept 5 of 6 episodes; 1 failed (seeds 3)" in capsys.readouterr().out
    assert not (buffer.path / "pending").exists()


def test_keeps_failures_when_asked_without_losing_count(tmp_path, capsys):
    buffer = ReplayBuffer.open(collect(config(tmp_path / "buffer", keep_failed=True)))
    assert [meta["success"] for meta in buffer.metadata] == [True, True, True, False, True, True]
    assert "kept 6 of 6 episodes; 1 failed (seeds 3)" in capsys.readouterr().out
    buffer.episode(3).validate()


def test_images_at_starts_keyframes_dwells_and_every_kth_frame(tmp_path):
    buffer = ReplayBuffer.open(collect(config(tmp_path / "buffer")))
    for i in range(buffer.n_episodes):
        episode = buffer.episode(i)
        episode.validate()
        dwells = [k + d for k in episode.keyframes for d in range(DWELL + 1)]
        expected = {*range(0, len(episode), 4), *episode.starts.tolist(), *dwells}
        assert set(episode.image_frames.tolist()) == expected
        assert len(episode) == episode.keyframes[-1] + DWELL + 1
        assert (episode.starts[1:] == episode.keyframes[:-1] + DWELL + 1).all()
        level = np.clip(128 + 100 * episode.state[episode.image_frames, :2], 0, 255).astype(int)
        assert np.abs(episode.images["front"][:, 0, 0, :2].astype(int) - level).max() <= 1


def test_recorded_actions_are_clean_though_the_executed_ones_are_not(tmp_path):
    noisy = ReplayBuffer.open(collect(config(tmp_path / "noisy", noise=0.05, burst_probability=1.0)))
    clean = ReplayBuffer.open(collect(config(tmp_path / "clean", noise=0.0, burst_probability=0.0)))
    goals = {tuple(goal) for goal in np.unique(clean.load("frames/action"), axis=0).tolist()}
    assert {tuple(action) for action in noisy.load("frames/action").tolist()} <= goals
    assert not np.array_equal(noisy.episode(0).state[:5], clean.episode(0).state[:5])


class PullingPolicy:
    """Drives the toy arm far off, four ticks per chunk."""

    def __init__(self) -> None:
        self.instructions: list[str] = []

    def reset(self, instruction: str) -> None:
        self.instructions.append(instruction)

    def act(self, observation: Observation) -> ActionChunk:
        return ActionChunk(actions=np.tile(np.array([2.0, -2.0, 0.0], np.float32), (4, 1)))


def load_pulling(weights: str, true_step: Callable[[], PlanStep | None]) -> PullingPolicy:
    """A policy that asks for the true step at every chunk, as the head does."""

    class ShownPolicy(PullingPolicy):
        def act(self, observation: Observation) -> ActionChunk:
            step = true_step()
            assert step is not None and step.subtask.removeprefix("touch ") in self.instructions[-1]
            return super().act(observation)

    assert weights == "pulling"
    return ShownPolicy()


def test_the_caller_says_how_a_policy_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(expert_demonstration, "POLICY_LENGTH", (4, 9))
    quiet = {"noise": 0.0, "burst_probability": 0.0}
    alone = ReplayBuffer.open(collect(config(tmp_path / "alone", **quiet)))
    driven = config(tmp_path / "driven", **quiet, policy="pulling", policy_share=1.0)
    with pytest.raises(ConfigError, match="policy='pulling': nothing was given that loads it"):
        collect(driven)
    assert not (tmp_path / "driven").exists()
    buffer = ReplayBuffer.open(collect(driven, load_pulling))
    assert np.abs(buffer.load("frames/state")[:, :2]).max() > 1.0 > np.abs(alone.load("frames/state")[:, :2]).max()


def test_a_policy_drives_for_a_while_and_the_expert_says_what_it_should_have_done(monkeypatch):
    monkeypatch.setattr(expert_demonstration, "POLICY_LENGTH", (4, 9))
    env, quiet = toy.ToyEnvironment(), {"split": "seen", "noise": 0.0, "burst_probability": 0.0, "image_every": 4}
    policy = PullingPolicy()
    with_expert = record_episode(env, 1, **quiet)
    driven = record_episode(env, 1, **quiet, policy=policy, policy_share=1.0)
    assert driven.success and set(policy.instructions) == {env.instruction}
    assert np.abs(driven.state[:, :2]).max() > 1.0 > np.abs(with_expert.state[:, :2]).max()
    assert {tuple(action) for action in driven.action.tolist()} <= {tuple(a) for a in with_expert.action.tolist()}
    alone = record_episode(env, 1, **quiet, policy=policy, policy_share=0.0)
    assert np.array_equal(alone.state, with_expert.state)


def test_result_does_not_depend_on_workers_or_interruption_by_more_seeds(tmp_path):
    collect(config(tmp_path / "whole", n=9))
    subprocess.run(command(tmp_path / "parts", 4, 2), check=True, capture_output=True)
    subprocess.run(command(tmp_path / "parts", 9, 2), check=True, capture_output=True)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def shared(out: Path, n: int, per_task: int, **changes) -> dict:
    """Collect two tasks: even seeds touch, odd ones tap, and seeds 3 and 10 cannot be solved."""
    collect(config(out, families=("touch", "tap"), n=n, per_task=per_task, **changes))
    return contents(out)


def test_seeds_are_tried_until_every_task_has_its_share(tmp_path, capsys):
    whole = shared(tmp_path / "whole", 30, 3)
    assert [(meta["seed"], meta["family"]) for meta in whole["meta"]] == [
        *((0, "touch"), (2, "touch"), (4, "touch")),
        *((1, "tap"), (5, "tap"), (7, "tap")),
    ]
    assert whole["dropped"] == [3]
    assert "kept 6 of 7 episodes; 1 failed (seeds 3)" in capsys.readouterr().out
    assert shared(tmp_path / "whole", 30, 3) == whole, "a complete collection tries nothing"
    more = shared(tmp_path / "whole", 30, 4)
    assert [meta["seed"] for meta in more["meta"]] == [0, 2, 4, 1, 5, 7, 6, 9]
    kept = shared(tmp_path / "kept", 30, 3, keep_failed=True)
    assert [meta["seed"] for meta in kept["meta"] if meta["success"]] == [0, 2, 4, 1, 5, 7]


def test_an_interruption_does_not_change_which_seeds_a_task_gets(tmp_path):
    whole = shared(tmp_path / "whole", 30, 3)
    shared(tmp_path / "parts", 4, 3)
    parts = shared(tmp_path / "parts", 30, 3)
    assert sorted(meta["seed"] for meta in parts["meta"]) == sorted(meta["seed"] for meta in whole["meta"])
    assert parts["dropped"] == whole["dropped"]


def test_a_task_that_lacks_episodes_is_named(tmp_path, capsys):
    shared(tmp_path / "few", 4, 2)
    assert "few: tap has 1 of 2 episodes; a larger n= tries more seeds" in capsys.readouterr().out


def test_tasks_drawn_by_seeds_have_no_share(tmp_path):
    with pytest.raises(ConfigError, match="per_task=2: in env=tabletop a seed draws its task; set n instead"):
        collect(CollectConfig(env="tabletop", n=4, per_task=2, out=tmp_path / "out"))


def test_rerun_after_kill_9_gives_the_uninterrupted_buffer(tmp_path):
    collect(config(tmp_path / "whole", n=12))
    killed = tmp_path / "killed"
    for commits in (1, 4):
        process = subprocess.Popen(command(killed, 12, 2, delay=0.004), stdout=subprocess.DEVNULL)
        wait_for(lambda: (killed / "index.json").exists() and ReplayBuffer.open(killed).n_episodes >= commits)  # noqa: B023
        workers = children_of(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: not any(is_running(pid) for pid in workers))  # noqa: B023
        assert 0 < ReplayBuffer.open(killed).n_episodes < 11
    (killed / "pending").mkdir(exist_ok=True)
    (killed / "pending" / "11.npz.partial").write_bytes(b"torn")
    subprocess.run(command(killed, 12, 2), check=True, capture_output=True)
    assert contents(killed) == contents(tmp_path / "whole")
    assert not list(killed.rglob("*.partial")) and not (killed / "pending").exists()


def wait_for(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_full_disk_is_refused_before_starting(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(SystemSetupError, match="GB needed, 0.0 GB free"):
        collect(config(tmp_path / "buffer"))


def test_a_disk_filling_up_keeps_earlier_episodes_and_continues(tmp_path, monkeypatch):
    extend, calls = ReplayBuffer.extend, []

    def fill_up(self, episodes):
        calls.append(episodes)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        extend(self, episodes)

    monkeypatch.setattr(ordered_commits, "COMMITTED_AT_ONCE", 2)
    monkeypatch.setattr(ReplayBuffer, "extend", fill_up)
    with pytest.raises(SystemSetupError, match="disk is full"):
        collect(config(tmp_path / "buffer"))
    assert ReplayBuffer.open(tmp_path / "buffer").n_episodes == 2
    collect(config(tmp_path / "buffer"))
    collect(config(tmp_path / "whole"))
    assert contents(tmp_path / "buffer") == contents(tmp_path / "whole")


def test_another_configuration_is_refused(tmp_path):
    collect(config(tmp_path / "buffer", n=1))
    with pytest.raises(ConfigError, match=r"another configuration: noise=0.5 \(was 0.01\)"):
        collect(config(tmp_path / "buffer", n=1, noise=0.5))


def test_an_existing_other_directory_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(DataError, match="photos: already exists"):
        collect(config(tmp_path / "photos"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "n is 0, must be at least 1"),
        ({"workers": 0}, "workers"),
        ({"per_task": 0}, "per_task is 0, must be at least 1"),
        ({"noise": float("nan")}, "noise"),
        ({"burst_probability": 2.0}, "burst_probability"),
        ({"seed": 9_999_999}, "evaluation seeds"),
        ({"policy": "mini"}, "go with a policy, got 0.0 and 'mini'"),
        ({"policy_share": 0.5}, "go with a policy"),
        ({"lerobot": True}, "lerobot=true needs image_every=1"),
    ],
)
def test_bad_configurations(changes, message, tmp_path):
    with pytest.raises((ConfigError, InvalidValueError), match=message):
        config(tmp_path, **changes)
