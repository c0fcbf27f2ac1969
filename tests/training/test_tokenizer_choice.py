"""The image tokenizer of a fine-tuning: kept, or trained on the set, once and for all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot_sets import small_episode, write_set
from tiny_weights import SIZE, write_weights

from emu_robot.data.prepare import PrepareConfig, prepare
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError
from emu_robot.evaluation.reconstructions import change_kept
from emu_robot.evaluation.records import read_json
from emu_robot.models.weights import load_weights, stage_hash
from emu_robot.training import tokenizer_choice
from emu_robot.training.loop import LoopConfig
from emu_robot.training.tokenizer_choice import (
    TokenizerChoice,
    TokenizerChoiceConfig,
    TokenizerMode,
    choose_tokenizer,
    scene_of,
)


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> TokenizerChoiceConfig:
    """On ten small episodes, from untrained weights, whose reconstructions are noise."""
    root = tmp_path_factory.mktemp("choice")
    episodes = [small_episode(seed, n_subtasks=1 + seed % 2) for seed in range(10)]
    write_set(root / "set", episodes, cameras=("front",))
    prepare(PrepareConfig(dataset=str(root / "set"), out=root / "data", image_size=SIZE, workers=0))
    loop = LoopConfig(steps=6, batch_size=4, lr=1e-3, warmup_steps=1, threads=1)
    return TokenizerChoiceConfig(
        data=root / "data", start=str(write_weights(root / "weights")), revive_images=8, initial_images=8, try_steps=3,
        loop=loop, holdout=0.2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(begun, tmp_path_factory) -> Path:
    """The folder of a choice that trained without a stop."""
    out = tmp_path_factory.mktemp("trained")
    choose_tokenizer(replace(begun, out=out, mode=TokenizerMode.train))
    return out


def rows_of_planner(folder: str | Path) -> torch.Tensor:
    return load_weights(folder, "planner").state["model.embed_tokens.weight"]


def test_a_tokenizer_below_the_bar_is_trained_and_the_planner_starts_with_its_codes(begun, trained):
    record, start = read_json(trained / "tokenizer.json"), trained / "start"
    assert set(record["tried"]) == {"ours", "new"} and record["winner"] in record["tried"] and record["better"]
    assert record["why"] == "tokenizer.mode=train" and record["tried_steps"] == 3
    assert record["after"]["pictures"] == record["before"]["pictures"] and (trained / "reconstructions.png").exists()
    tokenizer = load_weights(start, "tokenizer")
    assert tokenizer.config == load_weights(begun.start, "tokenizer").config
    book = torch.nn.functional.normalize(tokenizer.state["quantize.embedding.weight"], dim=-1)
    before, after = rows_of_planner(begun.start), rows_of_planner(start)
    assert torch.equal(before[:-64], after[:-64]) and not torch.allclose(before[-64:], after[-64:], atol=1e-3)
    solution = torch.linalg.lstsq(book, after[-64:]).solution
    assert torch.allclose(book @ solution, after[-64:], atol=2e-3), "similar codes must start similar"
    assert after[-64:].std() == pytest.approx(float(before[-64:].std()), rel=0.01)
    assert stage_hash(start, "head") == stage_hash(Path(begun.start), "head")


def test_noise_is_below_the_default_bar_and_what_reaches_the_bar_is_kept(begun, tmp_path, capsys):
    low = replace(begun, out=tmp_path / "low", least_psnr=0, least_change=-1000)
    start = choose_tokenizer(low)
    assert "the image tokenizer is kept: its reconstructions reach the bar" in capsys.readouterr().out
    assert not (low.out / "run").exists() and "winner" not in read_json(low.out / "tokenizer.json")
    for stage in ("tokenizer", "planner", "head"):
        assert stage_hash(start, stage) == stage_hash(Path(begun.start), stage)
    choose_tokenizer(replace(begun, out=tmp_path / "auto"))
    said = capsys.readouterr().out
    assert (
        "trained on the set: a median PSNR of" in said
        and "new, 3 steps: PSNR median" in said
        and "is below tokenizer.least_psnr=20" in said
    )
    record = read_json(tmp_path / "auto/tokenizer.json")
    assert record["better"] == (record["after"]["change"] > record["before"]["change"])


@pytest.mark.parametrize("fits", [1, 2])
def test_a_kill_between_the_tries_changes_nothing(begun, trained, tmp_path, monkeypatch, fits):
    """Killed when a second try, or the training after both, is to begin."""
    killed = replace(begun, out=tmp_path, mode=TokenizerMode.train)
    real, left = tokenizer_choice.fit_tokenizer, iter(range(fits))

    def fit_some(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tokenizer_choice, "fit_tokenizer", fit_some)
        with pytest.raises(KeyboardInterrupt):
            choose_tokenizer(killed)
    again = choose_tokenizer(killed)
    for stage in ("tokenizer", "planner"):
        assert stage_hash(again, stage) == stage_hash(trained / "start", stage)
    assert read_json(tmp_path / "tokenizer.json") == read_json(trained / "tokenizer.json")


def test_a_choice_is_made_once(begun, tmp_path):
    choose_tokenizer(replace(begun, out=tmp_path, mode=TokenizerMode.keep))
    with pytest.raises(ConfigError, match=r"was chosen with another configuration: mode='train' \(was 'keep'\)"):
        choose_tokenizer(replace(begun, out=tmp_path, mode=TokenizerMode.train))
    other = write_weights(tmp_path / "other", cameras=("front",))
    with pytest.raises(ConfigError, match="start head="):
        choose_tokenizer(replace(begun, out=tmp_path, mode=TokenizerMode.keep, start=str(other)))


def test_what_is_measured_is_held_out(begun):
    buffer = ReplayBuffer.open(begun.data)
    scene = scene_of(buffer, begun)
    assert not np.intersect1d(scene.learned, scene.rows).size and not np.intersect1d(scene.learned, scene.pairs).size
    assert np.isin(scene.keyframes, scene.learned).all()
    frames, ends = buffer.load("images/frame"), buffer.episode_ends
    starts = frames[scene.pairs[:, 0]] - np.r_[0, ends][np.searchsorted(ends, frames[scene.pairs[:, 0]], "right")]
    assert len(scene.pairs) == 3 and starts[0] == 0, "episodes 4 and 9 have one and two subtasks"


def test_the_share_of_a_change_that_is_kept():
    now = np.full((4, 4, 3), 100, np.uint8)
    later = now.copy()
    later[0, 0] = 200
    blurred = now.copy()
    blurred[0, 0] = 150
    assert change_kept((now, now), (now, later)) is None
    assert change_kept((now, later), (now, later)) == 1.0
    assert change_kept((now, later), (now + 30, later + 30)) == 1.0, "a wrong colour of everything changes nothing"
    assert change_kept((now, later), (now, blurred)) == 0.75
    assert change_kept((now, later), (now, now)) == 0.0
    assert change_kept((now, later), (later, now)) == -3.0


def test_settings_without_effect():
    assert "least_psnr" in TokenizerChoice(mode=TokenizerMode.train).without_effect()
    idle = TokenizerChoice(mode=TokenizerMode.keep).without_effect()
    assert {"least_psnr", "try_steps", "loop", "foreground"} <= set(idle) and "measured" not in idle
