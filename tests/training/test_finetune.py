"""Fine-tuning on a small LeRobotDataset: every step runs once, a stopped run goes on, the weights act."""

from pathlib import Path

import numpy as np
import pytest
from lerobot_sets import small_episode, write_set
from tiny_weights import SIZE, write_weights

from emu_robot.cli import finetune
from emu_robot.config import load_config
from emu_robot.core import Observation
from emu_robot.errors import ConfigError, DataError
from emu_robot.policy import PolicyConfig, load_policy
from emu_robot.training import dida
from emu_robot.training.finetune import steps
from emu_robot.weights import read_manifest

QUICK = (
    *("planner.loop.steps=3", "planner.eval_queries=4", "planner.holdout=0.2", "planner.sequences.shift_share=0"),
    *("dida.loop.steps=2", "dida.drawn_images=8", "dida.sequences.shift_share=0"),
    *("head.loop.steps=3", "head.holdout=0.2", "prepare.workers=0"),
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    episodes = [small_episode(seed, n_subtasks=1 + seed % 2, task=f"task {seed % 2}") for seed in range(10)]
    return write_set(tmp_path_factory.mktemp("sets") / "set", episodes, cameras=("top", "side"))


def test_one_command_makes_weights_that_act(weights, dataset, tmp_path, capsys, monkeypatch):
    words = [f"dataset={dataset}", f"weights={weights}", f"out={tmp_path}", *QUICK]

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dida, "fit", stop)
        with pytest.raises(KeyboardInterrupt):
            finetune.run(words)
    assert "PSNR median" in capsys.readouterr().out and (tmp_path / "reconstructions.png").exists()
    finetune.run(words)
    said = capsys.readouterr().out
    assert "train-planner on it: finished before" in said and "train-head on it: started" in said
    config = read_manifest(tmp_path / "weights")["stages"]["head"]["config"]
    assert config["cameras"] == ["front", "side"] and config["state_dim"] == 3
    policy = load_policy(tmp_path / "weights", goal="none", config=PolicyConfig(n_action_steps=4))
    policy.reset("task 1")
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    seen = Observation(images={"front": picture, "side": picture}, state=np.zeros(3, np.float32))
    assert policy.act(seen).actions.shape == (4, 3)


def test_the_planners_camera_is_found_or_asked_for(weights, dataset, tmp_path):
    def cameras(*words: str) -> dict[str, str]:
        settings = load_config("finetune", [f"dataset={dataset}", f"weights={weights}", f"out={tmp_path}", *words])
        return steps(settings)["prepare", "the set"].cameras

    assert cameras() == {"front": "top", "side": "side"}
    assert cameras("prepare.cameras.front=side") == {"front": "side"}
    with pytest.raises(ConfigError, match=r"looks through 'front'.*prepare.cameras.front="):
        cameras("prepare.cameras.wrist=side")
    with pytest.raises(ConfigError, match="say dataset= instead"):
        cameras("prepare.dataset=other")
    with pytest.raises(DataError, match="no such folder"):
        steps(load_config("finetune", ["dataset=./nowhere"]))
