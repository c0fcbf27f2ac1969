"""Every stage holds out the same episodes, at least one of two or more; a set without enough is refused at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_tabletop import episode, toy_buffer

from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError, DataError, ShapeError, UnknownNameError
from emu_robot.training.head import split_rows
from emu_robot.training.head_data import Demonstrations
from emu_robot.training.head_sampler import SamplingConfig, frame_weights
from emu_robot.training.holdout import held_out_episodes
from emu_robot.training.planner_data import PlanQueries
from emu_robot.training.set_check import check_set


@pytest.mark.parametrize(
    ("n", "share", "held"),
    [(2, 0.02, [1]), (3, 0.03, [2]), (30, 0.02, [29]), (30, 0.03, [29]), (10, 0.2, [4, 9]), (2, 0.9, [1]), (1, 0, [])],
)
def test_all_stages_hold_out_the_same_episodes(n: int, share: float, held: list[int], tmp_path: Path) -> None:
    buffer = toy_buffer(tmp_path / "data", n)
    check_set(buffer, ["front"], 32, share)
    queries, data = PlanQueries.load(buffer), Demonstrations.load(buffer, ["front"])
    parts = queries.split(share)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(queries)))
    assert np.unique(queries.episode[parts[1]]).tolist() == held
    seen, unseen = split_rows(data, share)
    assert np.unique(data.segments.episode_K[data.segment_M[unseen]]).tolist() == held and len(seen)


def test_only_episodes_with_a_completed_subtask_count() -> None:
    assert np.flatnonzero(held_out_episodes([1, 0, 2, 0, 1, 0], 0.02)).tolist() == [4]
    assert np.flatnonzero(held_out_episodes([0, 1, 0, 1, 1, 1], 0.5)).tolist() == [3, 5]
    with pytest.raises(DataError, match=r"1 of 3 episodes have a completed subtask.*holdout=0\.02"):
        held_out_episodes([0, 3, 0], 0.02)


def test_what_would_stop_a_training_later_is_said_at_once(tmp_path: Path) -> None:
    one = toy_buffer(tmp_path / "one", 1)
    with pytest.raises(DataError, match="1 of 1 episodes have a completed subtask; to hold one out"):
        check_set(one, ["front"], 32, 0.0, 0.03)
    with pytest.raises(UnknownNameError, match="'wrist'; known: front"):
        check_set(one, ["front", "wrist"])
    with pytest.raises(ShapeError, match=r"pictures of front .*: got \(32, 32\), expected \(64, 64\)"):
        check_set(one, ["front"], 64)
    failed = ReplayBuffer.create(tmp_path / "failed")
    failed.append(replace(episode(0), success=False, keyframes=np.zeros(0, np.int32), starts=np.zeros(1, np.int32)))
    with pytest.raises(DataError, match="no completed subtask in 1 episodes"):
        check_set(failed, ["front"])
    done = ReplayBuffer.create(tmp_path / "done")
    short = replace(episode(0), subtasks=("stand",), keyframes=np.zeros(1, np.int32), starts=np.zeros(1, np.int32))
    done.extend([short, short])
    with pytest.raises(DataError, match="every training episode starts at its keyframe"):
        check_set(done, ["front"], 32, 0.5)
    data = Demonstrations.load(toy_buffer(tmp_path / "three", 3), ["front"])
    with pytest.raises(ConfigError, match=r"verb_weights=.*leaves none of \d+ pictures"):
        frame_weights(data, split_rows(data, 0.1)[0], SamplingConfig(verb_weights={"move": 0.0}))
