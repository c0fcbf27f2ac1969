"""The image tokenizer of a fine-tuning: kept, or made of clusters of the set's cells, once and for all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot_sets import small_episode, write_set
from tiny_weights import SIZE, write_weights

from emu_robot.data.prepare import PrepareConfig, prepare
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError, DataError
from emu_robot.evaluation.reconstructions import change_kept
from emu_robot.evaluation.records import read_json
from emu_robot.models.weights import stage_hash
from emu_robot.planner.planner import Planner
from emu_robot.training import tokenizer_choice
from emu_robot.training.clusters import ClusterConfig
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
    clusters = ClusterConfig(rounds=3, joint_rounds=1)
    return TokenizerChoiceConfig(
        data=root / "data", start=str(write_weights(root / "weights")), clusters=clusters, holdout=0.2
    )


@pytest.fixture(scope="module")
def made(begun, tmp_path_factory) -> Path:
    """The folder of a choice that made clusters without a stop."""
    out = tmp_path_factory.mktemp("made")
    choose_tokenizer(replace(begun, out=out))
    return out


def test_below_the_bar_clusters_are_made_and_the_planner_goes_on_with_their_codes(begun, made, capsys):
    record, start = read_json(made / "tokenizer.json"), made / "start"
    assert record["clusters"] and record["better"] and "is below tokenizer.least_psnr=20" in record["why"]
    assert record["after"]["pictures"] == record["before"]["pictures"] and (made / "reconstructions.png").exists()
    assert record["after"]["median_db"] > record["before"]["median_db"] + 5
    before, after = Planner.load(begun.start), Planner.load(start)
    assert after.images.config.code_books == 2 and after.images.config.n_embed == record["books"]
    assert record["codes"] == after.images.config.n_codes == before.images.config.n_codes
    assert stage_hash(start, "tokenizer") == stage_hash(made / "run/clusters", "tokenizer")
    assert stage_hash(start, "head") == stage_hash(Path(begun.start), "head")
    pictures = ReplayBuffer.open(begun.data).images("front")[:]
    old, new = (one.images.encode_images(pictures).astype(np.int64) for one in (before, after))
    first = new // after.images.config.book_size
    met = torch.from_numpy(old[first == first[9, 10]])
    rows = [one.model.model.embed_tokens.weight[one.interleaver.vocabulary.first_code :] for one in (before, after)]
    torch.testing.assert_close(rows[1][int(first[9, 10])], rows[0][met].mean(0), atol=1e-4, rtol=1e-3)
    plan = after.first_steps([after.prompt(pictures[0], "put it away")], [0])[0]
    assert plan is None or plan[1].shape == (record["codes"],)


def test_what_reaches_the_bar_is_kept(begun, tmp_path, capsys):
    low = replace(begun, out=tmp_path, least_psnr=0, least_change=-1000)
    start = choose_tokenizer(low)
    assert "the image tokenizer is kept: its reconstructions reach the bar" in capsys.readouterr().out
    assert not (low.out / "run").exists() and "after" not in read_json(low.out / "tokenizer.json")
    for stage in ("tokenizer", "planner", "head"):
        assert stage_hash(start, stage) == stage_hash(Path(begun.start), stage)


def test_clusters_that_are_no_better_are_not_used_unless_asked_for(begun, tmp_path, monkeypatch, capsys):
    real = tokenizer_choice.kept
    found = real(Planner.load(begun.start).images, *_measured(begun))
    monkeypatch.setattr(tokenizer_choice, "kept", lambda *_: found)
    start = choose_tokenizer(replace(begun, out=tmp_path / "auto"))
    assert stage_hash(start, "tokenizer") == stage_hash(Path(begun.start), "tokenizer")
    assert "is kept: clusters are no better" in capsys.readouterr().out
    asked = choose_tokenizer(replace(begun, out=tmp_path / "asked", mode=TokenizerMode.clusters))
    assert Planner.load(asked).images.config.code_books == 2
    assert read_json(tmp_path / "asked/tokenizer.json")["why"] == "tokenizer.mode=clusters"


def _measured(config: TokenizerChoiceConfig) -> tuple:
    scene = scene_of(ReplayBuffer.open(config.data), config)
    return scene.images, scene.rows, scene.pairs


def test_where_nothing_moves_the_old_one_is_kept(begun, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tokenizer_choice, "cells_of", lambda *_: torch.zeros(3, 192))
    start = choose_tokenizer(replace(begun, out=tmp_path / "auto"))
    assert "3 different cells, clusters need at least 8" in capsys.readouterr().out
    assert stage_hash(start, "tokenizer") == stage_hash(Path(begun.start), "tokenizer")
    with pytest.raises(DataError, match="3 different cells, clusters need at least 8: too little moves"):
        choose_tokenizer(replace(begun, out=tmp_path / "asked", mode=TokenizerMode.clusters))


@pytest.mark.parametrize("step", ["clustered", "start_with", "draw_reconstructions"])
def test_a_kill_changes_nothing(begun, made, tmp_path, monkeypatch, step):
    """Killed when clusters are to be made, when the planner is to be carried over, and after that."""
    killed = replace(begun, out=tmp_path)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tokenizer_choice, step, stop)
        with pytest.raises(KeyboardInterrupt):
            choose_tokenizer(killed)
    if step != "clustered":
        monkeypatch.setattr(tokenizer_choice, "clustered", stop)
        monkeypatch.setattr(tokenizer_choice, "kept", stop)
    again = choose_tokenizer(killed)
    for stage in ("tokenizer", "planner"):
        assert stage_hash(again, stage) == stage_hash(made / "start", stage)
    assert read_json(tmp_path / "tokenizer.json") == read_json(made / "tokenizer.json")


def test_a_choice_is_made_once(begun, tmp_path):
    choose_tokenizer(replace(begun, out=tmp_path, mode=TokenizerMode.keep))
    with pytest.raises(ConfigError, match=r"was chosen with another configuration: mode='auto' \(was 'keep'\)"):
        choose_tokenizer(replace(begun, out=tmp_path))
    other = write_weights(tmp_path / "other", cameras=("front",))
    with pytest.raises(ConfigError, match="start head="):
        choose_tokenizer(replace(begun, out=tmp_path, mode=TokenizerMode.keep, start=str(other)))


def test_what_is_measured_is_held_out(begun):
    buffer = ReplayBuffer.open(begun.data)
    scene = scene_of(buffer, begun)
    assert not np.intersect1d(scene.learned, scene.rows).size and not np.intersect1d(scene.learned, scene.pairs).size
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
    assert set(TokenizerChoice(mode=TokenizerMode.clusters).without_effect()) == {"least_psnr", "least_change"}
    assert set(TokenizerChoice(mode=TokenizerMode.keep).without_effect()) == {"least_psnr", "least_change", "clusters"}
