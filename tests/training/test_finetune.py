"""Fine-tuning on a small LeRobotDataset: every step runs once, a stopped run goes on, the weights act."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from html_pages import read_page
from lerobot_sets import FPS, small_episode, write_set
from tiny_weights import SIZE, write_weights

from emu_robot.cli import finetune
from emu_robot.config import load_config
from emu_robot.core import Observation
from emu_robot.errors import ConfigError, DataError
from emu_robot.evaluation.records import read_json
from emu_robot.models.weights import read_manifest
from emu_robot.policy.config import PolicyConfig
from emu_robot.policy.emu_policy import load_policy
from emu_robot.training import dida
from emu_robot.training.finetune import verb_runs
from emu_robot.training.finetune_report import SAMPLES, choose
from emu_robot.training.loop import fit
from emu_robot.training.planner_data import PlanQueries

QUICK = (
    *("tokenizer.mode=clusters", "tokenizer.holdout=0.2"),
    *("planner.loop.steps=3", "planner.eval_queries=4", "planner.holdout=0.2", "planner.sequences.shift_share=0"),
    *("dida.loop.steps=2", "dida.drawn_images=8", "dida.sequences.shift_share=0", "dida.holdout=0.2"),
    *("head.loop.steps=3", "head.holdout=0.2", "prepare.workers=0", "track=tensorboard"),
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

    def stop(*given, **named):
        if tmp_path / "run" in given:
            raise KeyboardInterrupt
        return fit(*given, **named)  # of the estimate

    with monkeypatch.context() as patch:
        patch.setattr(dida, "fit", stop)
        with pytest.raises(KeyboardInterrupt):
            finetune.run(words)
    said = capsys.readouterr().out
    assert "PSNR median" in said and "the image tokenizer is made of clusters" in said
    assert (tmp_path / "reconstructions.png").exists() and not list(tmp_path.glob(".rehearsal*"))
    assert re.search(
        r"10 episodes, 315 frames, 2 cameras: the preparation takes about \d+ s and 2 MB on the disk", said
    )
    assert re.search(r"\nchoose-tokenizer for it: about \d+ s, .*; clusters of about \d+ cells\n", said)
    assert re.search(r"\ntrain-head on it: about \d+ s, [\d.]+ [MG]B of memory, \d MB on the disk; 3 steps at ", said)
    assert re.search(r"\nin all about \d+ s, at most ", said)
    assert re.search(r"\ntrain-dida on it: started; about \d+ s, and \d+ s for all that follows", said)
    begun = time.monotonic()
    finetune.run(words)
    estimated = json.loads((tmp_path / "estimate.json").read_text())["seconds"]
    rest = ("train-dida on it", "train-head on it", "choose-goal for it", "report of it")
    left = sum(estimated[name] for name in rest)
    assert 0.15 < (time.monotonic() - begun) / left < 6, "machines that run tests are busy"
    said = capsys.readouterr().out
    assert "train-planner on it: finished before" in said and "train-head on it: started" in said
    assert "renamed: camera top is front here" in (tmp_path / "report.html").read_text()
    head = read_manifest(tmp_path / "weights")["stages"]["head"]
    assert head["extra"]["camera_features"] == {
        f: f"observation.images.{s}" for f, s in (("front", "top"), ("side",) * 2)
    }
    config = head["config"]
    assert config["cameras"] == ["front", "side"] and config["state_dim"] == 3
    check_report(tmp_path / "report.html", said)
    finetune.run([word for word in words if not word.startswith("track=")])
    assert capsys.readouterr().out.count("finished before") == 10  # another tracker repeats nothing
    policy = load_policy(tmp_path / "weights", goal="none", config=PolicyConfig(n_action_steps=4))
    policy.reset("task 1")
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    seen = Observation(images={"front": picture, "side": picture}, state=np.zeros(3, np.float32))
    assert policy.act(seen).actions.shape == (4, 3)


def check_report(path: Path, said: str) -> None:
    """What the page of the set of ten episodes, two of them held out, must tell."""
    assert f"look at {path}" in said
    text, images = read_page(path)
    assert "10 episodes" in text and f"{FPS} Hz" in text and "front (in the set: top), the planner’s; side" in text
    assert (
        "is made of this set, of clusters of its cells" in text
        and "PSNR, median" in text
        and "of a change kept" in text
    )
    goals = read_json(path.parent / "goals.json")
    assert goals["episodes"] == 2 and goals["new"] and f"The weights run with goal={goals['goal']}" in text
    assert f"goal={goals['goal']} is now the weights' own mode" in said
    assert load_policy(path.parent / "weights").goal == goals["goal"]
    assert "action mae" in text and "the first picture at which a subtask is complete" in text
    assert not re.findall(r">\d+\.\d+</text>\s*(?=<text[^>]*>step)", path.read_text()), "there is no half step"
    assert "From episodes that neither planner nor parallel decoding was trained on." in text
    assert "episode 4" in text and "episode 9" in text and "episode 0" not in text
    assert text.count("✓") + text.count("✗") == 2 + 4  # the legend's, a moment of episode 4, three of 9
    shapes = {image.size for image in images[1:]}
    assert images[0].size == (6 * SIZE, 3 * SIZE) and shapes == {(SIZE, SIZE)} and len(images) > 4
    for stage in ("planner", "dida", "head"):
        assert f"loss of {stage} over steps" in path.read_text()
        assert list((path.parent / "run" / stage / "tensorboard").glob("events.out.tfevents.*"))


def test_moments_are_training_ones_where_none_is_held_out_from_all() -> None:
    n = np.arange(40)
    queries = PlanQueries(
        codes_Mn=np.zeros((40, 1), np.uint32), row=n, frame=n, episode=n // 4, next_step=n % 4 // 2,
        boundary=n % 2 == 0, complete=n % 4 == 3, instructions=("put it away",) * 10, subtasks=(("a", "b"),) * 10,
        keyframe_rows=(np.array([1, 3]),) * 10, taught=n >= 0, families=("away",) * 10,
    )  # fmt: skip
    moments, held_out = choose(queries, 0.2, 0.1)
    assert held_out and moments.tolist() == [36, 38]
    moments, held_out = choose(queries, 0.2, 0.25)
    assert not held_out and len(moments) == SAMPLES and set(moments % 2) == {0}


def test_the_planners_camera_is_found_or_asked_for(weights, dataset, tmp_path):
    def cameras(*words: str) -> dict[str, str]:
        settings = load_config("finetune", [f"dataset={dataset}", f"weights={weights}", f"out={tmp_path}", *words])
        return verb_runs(settings)["prepare", "the set"].cameras

    assert cameras() == {"front": "top", "side": "side"}
    assert cameras("prepare.cameras.front=side") == {"front": "side"}
    with pytest.raises(ConfigError, match=r"looks through 'front'.*prepare.cameras.front="):
        cameras("prepare.cameras.wrist=side")
    with pytest.raises(ConfigError, match="unknown key 'prepare.dataset' for finetune; valid: dataset, "):
        cameras("prepare.dataset=other")
    with pytest.raises(DataError, match="no such folder"):
        verb_runs(load_config("finetune", ["dataset=./nowhere"]))


def test_a_single_episode_is_refused_before_anything_is_written(weights, dataset, tmp_path):
    words = [f"dataset={dataset}", f"weights={weights}", f"out={tmp_path / 'out'}"]
    for few in ("prepare.n=1", "prepare.exclude=[1,2,3,4,5,6,7,8,9]"):
        with pytest.raises(DataError, match=r"1 of 1 episodes.*holdout=0\.1"):
            finetune.run([*words, few])
    assert not (tmp_path / "out").exists()
    assert verb_runs(load_config("finetune", [*words, "prepare.n=2"]))
