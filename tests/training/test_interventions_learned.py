"""What a person corrected is what head and planner learn of an episode; sets without corrections stay as they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lerobot_sets import small_episode, write_set
from test_head import LENGTH, REACH, config, episode, sampler

from emu_robot.data.lerobot_export import export_lerobot
from emu_robot.data.prepare import PrepareConfig, prepare
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError
from emu_robot.training.head import split_rows
from emu_robot.training.head_data import Demonstrations
from emu_robot.training.head_sampler import SamplingConfig, frame_weights
from emu_robot.training.planner_data import PlanQueries

RUN = (LENGTH + 2, LENGTH + 8)
"""A correction within the second subtask."""


def buffer_of(path: Path, n_corrected: int, n_demonstrations: int) -> ReplayBuffer:
    made = ReplayBuffer.create(path)
    corrected = [replace(episode(seed), interventions=(RUN,)) for seed in range(n_corrected)]
    made.extend([*corrected, *(episode(100 + seed) for seed in range(n_demonstrations))])
    return made


def test_lerobots_feature_becomes_the_runs_of_an_episode_at_any_rate(tmp_path: Path) -> None:
    flags = np.zeros(41, bool)
    flags[4:9] = flags[20:22] = True
    corrected = small_episode(0, columns={"intervention": flags[:, None].tolist()})
    plain = small_episode(1, columns={"intervention": np.zeros((41, 1), bool).tolist()})
    assert len(corrected) == len(plain) == len(flags), "as many frames as flags"
    root = write_set(tmp_path / "set", [corrected, plain])
    for hz, runs in ((0, ((4, 9), (20, 22))), (5, ((2, 5), (10, 11)))):
        path = prepare(
            PrepareConfig(dataset=str(root), out=tmp_path / f"at{hz}", workers=0, image_size=32, control_hz=hz)
        )
        buffer = ReplayBuffer.open(path)
        assert buffer.episode(0).interventions == runs and buffer.episode(1).interventions == ()
        assert [*(meta.get("interventions") for meta in buffer.metadata)][1] is None
    with pytest.raises(DataError, match="holds corrections"):
        export_lerobot(path, tmp_path / "again")


def test_runs_that_are_none_are_refused(tmp_path: Path) -> None:
    for runs in (((3, 3),), ((5, 8), (7, 9)), ((1, 2 * LENGTH + 1),)):
        with pytest.raises(DataError, match="are no runs of 24 frames"):
            ReplayBuffer.create(tmp_path / str(runs)).append(replace(episode(0), interventions=runs))


def test_the_head_learns_corrections_alone_of_an_episode_that_has_some(tmp_path: Path) -> None:
    buffer = buffer_of(tmp_path / "data", n_corrected=4, n_demonstrations=4)
    data = Demonstrations.load(buffer, ("front",))
    rows = np.concatenate(split_rows(data, 0.2))
    frames = data.frame_M[rows]
    of = frames // (2 * LENGTH)
    for e in range(4):
        assert np.array_equal(frames[of == e] - e * 2 * LENGTH, np.arange(*RUN))
        assert (of == e + 4).sum() == 2 * LENGTH


def test_a_chunk_ends_where_the_policy_goes_on(tmp_path: Path) -> None:
    data = Demonstrations.load(buffer_of(tmp_path / "data", 1, 1), ("front",))
    frame = np.array([RUN[1] - 2])
    last = data.last_frames(frame, data.segments.at(frame))
    assert last[0] == RUN[1] - 1 < data.segments.keyframe_K[1]
    chunk = data.chunks(frame, last, 4)[0]
    assert np.array_equal(chunk, data.action[[RUN[1] - 2, *[RUN[1] - 1] * 3]])
    early = np.array([LENGTH + REACH])
    assert data.last_frames(early + 2 * LENGTH, np.array([3]))[0] == data.segments.keyframe_K[3], "a demonstration"


def test_corrections_are_half_of_the_examples_among_demonstrations(tmp_path: Path) -> None:
    data = Demonstrations.load(buffer_of(tmp_path / "data", n_corrected=2, n_demonstrations=10), ("front",))
    rows = np.concatenate(split_rows(data, 0.2))
    intervened = data.intervened_N[data.frame_M[rows]]
    assert intervened.mean() < 0.1
    for share in (0.5, 0.2, 0.0):
        weights = frame_weights(data, rows, SamplingConfig(intervention_share=share))
        assert weights[intervened].sum() / weights.sum() == pytest.approx(share)
        assert np.ptp(weights[~intervened] / frame_weights_without(data, rows)[~intervened]) < 1e-9, "as before"


def frame_weights_without(data: Demonstrations, rows: np.ndarray) -> np.ndarray:
    plain = replace(data, intervened_N=np.zeros_like(data.intervened_N))
    return frame_weights(plain, rows, SamplingConfig())


def test_a_set_without_corrections_is_learned_as_before(tmp_path: Path) -> None:
    data = Demonstrations.load(buffer_of(tmp_path / "data", 0, 6), ("front", "wrist"))
    rows, held = split_rows(data, 0.2)
    assert len(rows) + len(held) == (data.segment_M >= 0).sum()
    assert np.array_equal(data.taught_end_N, np.repeat(np.arange(1, 7) * 2 * LENGTH, 2 * LENGTH))
    settings = config(tmp_path)
    batches = [sampler(data, settings)(3)["actions"], sampler(data, config(tmp_path, intervention_share=0.1))(3)]
    assert np.array_equal(batches[0], batches[1]["actions"])
    queries = PlanQueries.load(ReplayBuffer.open(tmp_path / "data"))
    assert sum(map(len, queries.split(0.2))) == len(queries)


def test_a_set_of_corrections_alone_is_drawn_as_it_is(tmp_path: Path) -> None:
    data = Demonstrations.load(buffer_of(tmp_path / "data", n_corrected=5, n_demonstrations=0), ("front", "wrist"))
    settings = config(tmp_path, no_goal=0.0)
    batch = sampler(data, settings)(0)
    assert batch["actions"].isfinite().all()


def test_the_planner_is_asked_only_where_a_person_corrected(tmp_path: Path) -> None:
    queries = PlanQueries.load(buffer_of(tmp_path / "data", n_corrected=3, n_demonstrations=3))
    chosen = np.concatenate(queries.split(0.3))
    of = queries.episode[chosen]
    for e in range(3):
        assert np.array_equal(queries.frame[chosen[of == e]] - e * 2 * LENGTH, np.arange(*RUN))
        assert (queries.next_step[chosen[of == e]] == 1).all()
        assert (of == e + 3).sum() == (queries.episode == e + 3).sum()


def test_held_out_episodes_without_a_correction_in_a_completed_subtask_are_an_error(tmp_path: Path) -> None:
    made = ReplayBuffer.create(tmp_path / "data")
    failed = replace(
        episode(0), success=False, keyframes=episode(0).keyframes[:1], interventions=(RUN,)
    )  # corrected in the subtask that was never completed
    made.extend([replace(failed, seed=seed) for seed in range(3)])
    with pytest.raises(DataError, match="episode has an intervention within a completed subtask"):
        split_rows(Demonstrations.load(made, ("front",)), 0.5)
