import numpy as np
import pytest

from emu_robot.data.episode import Episode
from emu_robot.errors import DataError, ShapeError


def test_file_round_trip(tmp_path, make_episode):
    episode = make_episode(3)
    episode.save(tmp_path / "e.npz")
    loaded = Episode.load(tmp_path / "e.npz")
    loaded.validate()
    assert loaded.meta() == episode.meta()
    assert np.array_equal(loaded.images["wrist"], episode.images["wrist"])
    assert [file.name for file in tmp_path.iterdir()] == ["e.npz"]


def test_damaged_files(tmp_path, make_episode):
    path = tmp_path / "e.npz"
    make_episode().save(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"e.npz: not a readable episode file"):
        Episode.load(path)
    np.savez(path, meta=np.array('{"seed": 1}'))
    with pytest.raises(DataError, match=r"e.npz"):
        Episode.load(path)


def test_dwell_belongs_to_its_subtask(make_episode):
    assert make_episode().subtask_T.tolist() == [0] * 12 + [1] * 8


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"state": np.zeros((19, 8), np.float32)}, ShapeError),
        ({"state": np.zeros((20, 8))}, ShapeError),
        ({"state": np.zeros(20, np.float32)}, ShapeError),
        ({"action": np.full((20, 8), np.nan, np.float32)}, DataError),
        ({"images": {"front": np.zeros((4, 16, 16, 3), np.uint8)}}, ShapeError),
        ({"images": {"front": np.zeros((5, 16, 16, 4), np.uint8)}}, ShapeError),
        ({"images": {"front": np.zeros((5, 16, 16, 3), np.float32)}}, ShapeError),
        ({"keyframes": np.array([9], np.int32)}, DataError),
        ({"keyframes": np.array([9, 11], np.int32)}, DataError),
        ({"starts": np.array([1, 12], np.int32)}, DataError),
        ({"starts": np.array([0, 8], np.int32)}, DataError),
        ({"starts": np.zeros(0, np.int32), "keyframes": np.zeros(0, np.int32)}, DataError),
        ({"image_frames": np.array([0, 5, 9, 13, 19], np.int32)}, DataError),
        ({"image_frames": np.array([0, 9, 5, 12, 19], np.int32)}, DataError),
        ({"image_frames": np.array([0, 9, 12, 19, 20], np.int32)}, DataError),
        ({"subtasks": ("only one",)}, DataError),
    ],
)
def test_inconsistent_episodes_are_refused(make_episode, changes, error):
    with pytest.raises(error, match="seed 0"):
        make_episode(**changes).validate()
