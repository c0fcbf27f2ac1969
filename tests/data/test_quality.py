"""Every quality check finds the one fault that a set has, in the episode that has it, and nothing else."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lerobot_sets import SmallEpisode, edit_column, small_episode, write_set

from emu_robot.cli import data as data_verb
from emu_robot.config import load_config
from emu_robot.data.check import CheckConfig, check
from emu_robot.data.collect import CollectConfig, collect
from emu_robot.data.prepare import PrepareConfig, prepare
from emu_robot.data.quality import QualityConfig, SetQuality, Verdict
from emu_robot.data.quality_record import QUALITY, read_quality, told_before_training
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError, DataError

ODD, LENGTH = 3, 41
"""The episode that has the fault; frames of every episode."""


def clean(n: int = 8, **changes) -> list[SmallEpisode]:
    return [small_episode(seed, **changes) for seed in range(n)]


def judged(root: Path, episodes: list[SmallEpisode], **settings) -> SetQuality:
    cameras = settings.pop("cameras", ("top", "side"))
    write_set(root, episodes, cameras=cameras)
    return check(CheckConfig(dataset=str(root), workers=0, **settings))


def with_fault(change: Callable[[SmallEpisode], SmallEpisode]) -> list[SmallEpisode]:
    episodes = clean()
    episodes[ODD] = change(episodes[ODD])
    return episodes


def only(found: SetQuality, name: str, verdict: Verdict, index: int = ODD) -> str:
    """The reason of the one finding in the set, which must be of this check, verdict and episode."""
    faults = [(one.index, f.check, f.verdict) for one in found.episodes for f in one.findings]
    assert faults == [(index, name, verdict)]
    return found.episodes[index].findings[0].reason


def test_a_clean_set_passes(tmp_path):
    found = judged(tmp_path / "set", clean())
    assert [one.verdict for one in found.episodes] == [Verdict.PASS] * 8
    assert found.headline == "quality: 8 PASS, 0 REVIEW, 0 EXCLUDE of 8 episodes"
    notes = "\n".join(found.notes)
    assert "'put it away' 8" in notes and "4.1 to 4.1 s" in notes and "no next.success" in notes


def test_a_black_camera(tmp_path):
    whole = only(
        judged(tmp_path / "a", with_fault(lambda e: replace(e, seen=lambda t: None))), "black camera", Verdict.EXCLUDE
    )
    assert "top in 100 %" in whole
    woke = with_fault(lambda e: replace(e, seen=lambda t: None if t < 6 else t))
    assert "frames 0-4" in only(judged(tmp_path / "b", woke), "black camera", Verdict.REVIEW)


def test_a_frozen_camera(tmp_path):
    stood = with_fault(lambda e: replace(e, seen=lambda t: min(t, 3)))
    assert "top shows the same" in only(judged(tmp_path / "a", stood), "frozen camera", Verdict.EXCLUDE)
    paused = with_fault(lambda e: replace(e, seen=lambda t: 8 if 8 <= t < 23 else t))
    assert "top" in only(judged(tmp_path / "b", paused), "frozen camera", Verdict.REVIEW)
    rests = with_fault(lambda e: replace(e, seen=lambda t: max(t, 3)))  # the arm rests meanwhile
    assert not judged(tmp_path / "c", rests).of(Verdict.REVIEW)


def test_a_timing_gap_is_excluded_as_prepare_would_refuse_it(tmp_path):
    root = write_set(tmp_path / "set", clean())

    def late(seconds: list[float]) -> list[float]:
        at, end = ODD * LENGTH + 20, (ODD + 1) * LENGTH
        return [*seconds[:at], *(second + 0.3 for second in seconds[at:end]), *seconds[end:]]

    edit_column(root / "data/chunk-000/file-000.parquet", "timestamp", late)
    found = check(CheckConfig(dataset=str(root), workers=0))
    assert "0.4000 s after frame 19, expected 0.1000 s" in only(found, "timing gap", Verdict.EXCLUDE)


def test_a_jump(tmp_path):
    def cut(episode: SmallEpisode) -> SmallEpisode:
        state = episode.state.copy()
        state[11:, 1:] += np.float32(1.5)
        return replace(episode, state=state, commanded=state)

    gaps = [replace(e, commanded=e.state) for e in clean()]
    gaps[ODD] = cut(gaps[ODD])
    assert "frames 10 and 11" in only(judged(tmp_path / "set", gaps), "jump", Verdict.REVIEW)


def test_a_static_episode(tmp_path):
    stands = with_fault(lambda e: replace(e, state=np.zeros_like(e.state)))
    assert "0.0 %" in only(judged(tmp_path / "set", stands), "static", Verdict.EXCLUDE)


def test_an_idle_episode(tmp_path):
    waits = with_fault(lambda e: replace(e, state=np.concatenate([e.state, np.repeat(e.state[-1:], 70, 0)])))
    assert "% of its 11.1 s" in only(judged(tmp_path / "set", waits), "idle", Verdict.REVIEW)


def test_a_frozen_state(tmp_path):
    def stuck(episode: SmallEpisode) -> SmallEpisode:
        state = episode.state.copy()
        state[5:18] = state[5]
        return replace(episode, state=state, commanded=episode.action)

    assert "frames 6-17" in only(judged(tmp_path / "set", with_fault(stuck)), "frozen state", Verdict.REVIEW)


def test_targets_that_a_limit_cuts_off(tmp_path):
    def cut(episode: SmallEpisode) -> SmallEpisode:
        return replace(episode, commanded=np.minimum(episode.action, np.array([100, 0.6, 9])))

    found = judged(tmp_path / "set", [cut(e) for e in clean()])
    assert {f.check for one in found.episodes for f in one.findings} == {"clipped action"}
    assert "shoulder.pos stays at 0.6, the end of its range" in found.episodes[0].reason


def test_the_17_degrees_between_leader_and_follower(tmp_path):
    def degrees(episode: SmallEpisode, off: float) -> SmallEpisode:
        state = episode.state * np.array([1, 90, 90])
        commanded = np.concatenate([state[1:], state[-1:]]) + np.array([0, 0, off])
        return replace(episode, state=state, commanded=commanded)

    found = judged(tmp_path / "all", [degrees(e, 17) for e in clean()])
    assert [one.verdict for one in found.episodes] == [Verdict.REVIEW] * 8
    assert {f.check for one in found.episodes for f in one.findings} == {"offset"}
    assert "elbow.pos +17" in found.episodes[0].reason and "shoulder" not in found.episodes[0].reason
    sags = judged(tmp_path / "sag", [degrees(e, 2) for e in clean()])
    assert not sags.of(Verdict.REVIEW)


def test_one_demonstration_against_all_others(tmp_path):
    episodes = [replace(e, scene=1) for e in clean()]
    there = episodes[ODD].state * np.array([1, -1, -1])
    episodes[ODD] = replace(episodes[ODD], state=there)
    reason = only(judged(tmp_path / "same", episodes), "contradiction", Verdict.REVIEW)
    assert "at frame" in reason and "episodes" in reason
    elsewhere = [replace(e, scene=0 if i == ODD else 2) for i, e in enumerate(episodes)]
    assert not judged(tmp_path / "other", elsewhere).of(Verdict.REVIEW), "another picture explains another motion"
    asked = [replace(e, task="put it back" if i == ODD else e.task) for i, e in enumerate(episodes)]
    assert not judged(tmp_path / "asked", asked).of(Verdict.REVIEW), "and so does another instruction"


def test_a_start_elsewhere_and_an_odd_length(tmp_path):
    begins = with_fault(lambda e: replace(e, state=e.state[9:]))
    assert "shoulder.pos" in only(judged(tmp_path / "a", begins), "start", Verdict.REVIEW)
    short = with_fault(lambda e: replace(e, state=e.state[:10]))
    assert "lasts 1.0 s" in only(judged(tmp_path / "b", short), "length", Verdict.REVIEW)


def test_outcomes_are_told_and_failures_are_no_faults(tmp_path):
    episodes = clean()
    for i, episode in enumerate(episodes):
        done = np.zeros(len(episode), bool)
        done[-1] = i != ODD
        episode.columns["next.success"] = done
    found = judged(tmp_path / "set", episodes)
    assert "outcomes: 7 succeeded, 1 failed (3)" in found.notes and not found.of(Verdict.REVIEW)


def test_what_cannot_be_read_is_excluded_and_told(tmp_path):
    root = write_set(tmp_path / "set", clean(), cameras=("top",))
    film = root / "videos/observation.images.top/chunk-000/file-000.mp4"
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 3])
    found = check(CheckConfig(dataset=str(root), workers=0))
    assert found.episodes[-1].verdict is Verdict.EXCLUDE and "file-000.mp4" in found.episodes[-1].reason
    without = check(CheckConfig(dataset=str(root), workers=0, quality=QualityConfig(picture_every_s=0)))
    assert not without.of(Verdict.EXCLUDE) and any("not checked: cameras" in note for note in without.notes)


def test_the_command_prints_every_fault_and_writes_them(tmp_path, capsys):
    root = write_set(tmp_path / "set", with_fault(lambda e: replace(e, seen=lambda t: None)))
    data_verb.run(["check", f"dataset={root}", "workers=0", f"out={tmp_path / 'found.json'}"])
    said = capsys.readouterr().out
    assert "7 PASS, 0 REVIEW, 1 EXCLUDE of 8" in said and "episode 3 EXCLUDE: black camera: top" in said
    kept = json.loads((tmp_path / "found.json").read_text())
    assert kept["counts"] == {"PASS": 7, "REVIEW": 0, "EXCLUDE": 1}
    assert SetQuality.from_json(kept).episodes[ODD].verdict is Verdict.EXCLUDE
    with pytest.raises(DataError, match="no such folder"):
        data_verb.run(["check", f"dataset={tmp_path / 'none'}"])


def test_prepare_says_what_is_faulty_and_leaves_it_out_only_when_asked(tmp_path, capsys):
    root = write_set(tmp_path / "set", with_fault(lambda e: replace(e, seen=lambda t: None)))
    settings = {"dataset": str(root), "image_size": 32, "workers": 0}
    kept = ReplayBuffer.open(prepare(PrepareConfig(**settings, out=tmp_path / "kept")))
    said = capsys.readouterr().out
    assert kept.n_episodes == 8 and "episode 3 EXCLUDE: black camera" in said and "left out" not in said
    asked = PrepareConfig(**settings, out=tmp_path / "less", leave_out_faulty=True)
    less = ReplayBuffer.open(prepare(asked))
    assert [meta["seed"] for meta in less.metadata] == [0, 1, 2, 4, 5, 6, 7]
    assert "left out: episode 3, black camera" in capsys.readouterr().out
    assert "left out: episode 3, black camera" in (tmp_path / "less/segmentation.html").read_text()
    assert any("episode 3 EXCLUDE" in line for line in told_before_training(tmp_path / "less"))
    with pytest.raises(ConfigError, match="leave_out_faulty"):
        prepare(replace(asked, leave_out_faulty=False))
    (tmp_path / "less" / QUALITY).write_text("{}")
    with pytest.raises(DataError, match=QUALITY):
        read_quality(tmp_path / "less")


def test_leaving_out_also_leaves_out_what_a_preparation_would_refuse(tmp_path):
    root = write_set(tmp_path / "set", clean())
    edit_column(
        root / "data/chunk-000/file-000.parquet",
        "timestamp",
        lambda s: [*s[:20], *(t + 0.3 for t in s[20:LENGTH]), *s[LENGTH:]],
    )
    settings = load_config("prepare", [f"dataset={root}", f"out={tmp_path / 'out'}", "workers=0", "image_size=32"])
    with pytest.raises(DataError, match="exclude"):
        prepare(settings)
    prepare(replace(settings, leave_out_faulty=True))
    assert ReplayBuffer.open(tmp_path / "out").n_episodes == 7


def test_a_training_tells_a_set_that_was_never_checked(tmp_path):
    assert told_before_training(tmp_path) == [
        f"quality: {tmp_path} was not checked; emu-robot data check dataset={tmp_path} does it"
    ]


@pytest.mark.slow
def test_what_the_experts_demonstrate_passes(tmp_path):
    collect(CollectConfig(n=6, out=tmp_path / "demos", workers=1), None)
    for folder in (tmp_path / "demos", tmp_path / "demos_lerobot"):
        found = check(CheckConfig(dataset=str(folder), workers=0))
        assert [one.verdict for one in found.episodes] == [Verdict.PASS] * 6, found.lines()
