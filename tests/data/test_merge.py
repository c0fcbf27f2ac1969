import numpy as np
import pytest

from emu_robot.data.merge import MergeConfig, merge
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError, InvalidValueError, ShapeError


def buffer(path, episodes):
    created = ReplayBuffer.create(path)
    created.extend(episodes)
    created.close()
    return path


def test_merged_buffer_holds_every_episode_in_order(tmp_path, make_episode):
    first = buffer(tmp_path / "a", [make_episode(0), make_episode(1)])
    second = buffer(tmp_path / "b", [make_episode(2)])
    config = MergeConfig(sources=[first, second], out=tmp_path / "c")
    merged = ReplayBuffer.open(merge(config))
    assert merge(config) == merged.path  # a second time there is nothing to do
    assert [meta["seed"] for meta in merged.metadata] == [0, 1, 2]
    for i in range(3):
        expected, got = make_episode(i), merged.episode(i)
        assert np.array_equal(got.state, expected.state)
        assert np.array_equal(got.image_frames, expected.image_frames)
        assert np.array_equal(got.images["front"], expected.images["front"])


def test_what_cannot_be_merged_is_named_and_leaves_nothing(tmp_path, make_episode):
    source = buffer(tmp_path / "a", [make_episode(0)])
    other = buffer(tmp_path / "b", [make_episode(1, size=32)])
    out = tmp_path / "c"
    for sources, error, message in (
        ([], InvalidValueError, "no sources"),
        ([source, tmp_path / "none"], DataError, "none: no such replay buffer"),
        ([source, other], ShapeError, "images/front"),
    ):
        with pytest.raises(error, match=message):
            merge(MergeConfig(sources=sources, out=out))
        assert not out.exists()
    with pytest.raises(DataError, match="b: already exists and holds something else"):
        merge(MergeConfig(sources=[source], out=other))


def test_fewer_images_are_kept_and_every_start_keyframe_and_dwell(tmp_path, make_episode):
    whole = make_episode(0)
    source = buffer(tmp_path / "a", [whole])
    thin = ReplayBuffer.open(merge(MergeConfig(sources=[source], out=tmp_path / "b", image_every=5))).episode(0)
    needed = {*whole.starts.tolist(), *whole.keyframes.tolist()}
    dwells = [range(k, s) for k, s in zip(whole.keyframes, [*whole.starts[1:], len(whole)], strict=False)]
    needed |= {frame for dwell in dwells for frame in dwell} | set(range(0, len(whole), 5))
    kept = [i for i, frame in enumerate(whole.image_frames.tolist()) if frame in needed]
    assert thin.image_frames.tolist() == whole.image_frames[kept].tolist()
    assert np.array_equal(thin.images["front"], whole.images["front"][kept])
    with pytest.raises(DataError, match="already exists and holds something else"):
        merge(MergeConfig(sources=[source], out=tmp_path / "b"))
    with pytest.raises(InvalidValueError, match="image_every is 0"):
        MergeConfig(image_every=0)
