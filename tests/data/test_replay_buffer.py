import json
import os
import signal

import numpy as np
import pytest
import zarr

from emu_robot.data import image_codes
from emu_robot.data.episode import Episode
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError, InvalidValueError, ShapeError, SystemSetupError, UnknownNameError
from emu_robot.shared.interrupts import Interrupted


@pytest.fixture
def buffer(tmp_path, make_episode):
    buffer = ReplayBuffer.create(tmp_path / "buffer")
    buffer.extend([make_episode(seed) for seed in range(3)])
    buffer.append(make_episode(3, n_frames=30))
    return buffer


def same(a: Episode, b: Episode) -> bool:
    arrays = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("state", "action", "image_frames"))
    return a.meta() == b.meta() and arrays and all(np.array_equal(a.images[c], b.images[c]) for c in b.images)


def test_episodes_come_back(buffer, make_episode):
    reopened = ReplayBuffer.open(buffer.path)
    assert (reopened.n_episodes, reopened.n_frames, reopened.n_images) == (4, 90, 20)
    for i, n_frames in enumerate((20, 20, 20, 30)):
        assert same(reopened.episode(i), make_episode(i, n_frames=n_frames))


def test_flat_arrays_line_up(buffer):
    assert buffer.episode_ends.tolist() == [20, 40, 60, 90]
    assert buffer.image_ends.tolist() == [5, 10, 15, 20]
    assert buffer.load("images/frame")[5:10].tolist() == [20, 25, 29, 32, 39]
    assert buffer.load("frames/episode").tolist() == [0] * 20 + [1] * 20 + [2] * 20 + [3] * 30
    assert buffer.load("frames/subtask")[:20].tolist() == [0] * 12 + [1] * 8
    assert np.array_equal(buffer.images("wrist")[5:10], buffer.episode(1).images["wrist"])


def test_many_images_cross_chunks(tmp_path, make_episode):
    buffer = ReplayBuffer.create(tmp_path / "buffer")
    episodes = [make_episode(seed) for seed in range(40)]
    for begin in range(0, 40, 8):
        buffer.extend(episodes[begin : begin + 8])
    expected = np.concatenate([episode.images["front"] for episode in episodes])
    assert np.array_equal(ReplayBuffer.open(buffer.path).images("front")[:], expected)


class FakeTokenizer:
    """Codes that tell their image, counting from `first`; remembers how many images it was shown."""

    def __init__(self, buffer, first=131_000):
        self._known = {image.tobytes(): first + row for row, image in enumerate(buffer.images("front")[:])}
        self.n_seen = 0

    def __call__(self, images):
        self.n_seen += len(images)
        return np.array([[self._known[image.tobytes()]] * 64 for image in images])


def test_codes_need_more_than_16_bits(buffer):
    buffer.encode("front", FakeTokenizer(buffer), "first")
    codes = ReplayBuffer.open(buffer.path).load_codes("front", "first")
    assert codes.dtype == np.uint32 and codes.shape == (20, 64)
    assert np.array_equal(codes[:, 0], 131_000 + np.arange(20))
    with pytest.raises(DataError, match="codes_front: made by another image tokenizer"):
        buffer.load_codes("front", "second")
    buffer.encode("front", FakeTokenizer(buffer, first=2**31), "second")
    assert buffer.load_codes("front", "second").min() == 2**31


def test_only_missing_codes_are_made(buffer, make_episode, monkeypatch):
    with pytest.raises(DataError, match="codes_front: no such array"):
        buffer.load_codes("front", "one")
    monkeypatch.setattr(image_codes, "CODES_PER_BLOCK", 6)
    stopped = FakeTokenizer(buffer)

    def encode(images):
        if stopped.n_seen == 7:  # the first image is encoded once more, to learn the shape
            os.kill(os.getpid(), signal.SIGTERM)
        return stopped(images)

    with pytest.raises(Interrupted, match="stopped after 12 of 20 images"):
        buffer.encode("front", encode, "one")
    with pytest.raises(DataError, match="12 rows for 20 images; encode"):
        buffer.load_codes("front", "one")
    monkeypatch.undo()
    rest = FakeTokenizer(buffer)
    buffer.encode("front", rest, "one")
    assert rest.n_seen == 8
    assert np.array_equal(buffer.load_codes("front", "one")[:, 0], 131_000 + np.arange(20))
    buffer.append(make_episode(9))
    with pytest.raises(DataError, match="20 rows for 25 images; encode"):
        buffer.load_codes("front", "one")


@pytest.mark.parametrize(
    ("codes", "error"),
    [
        (np.full((1, 64), -1), InvalidValueError),
        (np.full((1, 64), 2**32), InvalidValueError),
        (np.zeros((2, 64), int), ShapeError),
        (np.zeros((1, 64)), ShapeError),
    ],
)
def test_bad_codes(buffer, codes, error):
    with pytest.raises(error):
        buffer.encode("front", lambda images: codes, "one")


def test_single_images_are_read_where_they_lie(buffer, make_episode):
    images = buffer.images("front")
    everything = np.concatenate([buffer.episode(i).images["front"] for i in range(4)])
    assert len(images) == 20 and images.shape == everything.shape
    assert np.array_equal(images[7], everything[7]) and np.array_equal(images[-1], everything[-1])
    assert np.array_equal(images[3:19:5], everything[3:19:5])
    assert np.array_equal(images[np.array([[0, 19], [4, 4]])], everything[[[0, 19], [4, 4]]])
    images[np.array([2])][:] = 0
    assert np.array_equal(images[2], everything[2])
    with pytest.raises(InvalidValueError, match=r"images 3\.\.20 of 20"):
        images[np.array([3, 20])]


def test_a_truncated_image_file_is_named(buffer):
    chunk = buffer.path / "images/front/c/0/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"images/front/c/0/0/0/0: \d+ bytes, expected \d+"):
        buffer.images("front")


def test_black_images_are_stored_too(tmp_path, make_episode):
    buffer = ReplayBuffer.create(tmp_path / "buffer")
    black = {camera: np.zeros_like(images) for camera, images in make_episode(0).images.items()}
    buffer.append(make_episode(0, images=black))
    assert not buffer.images("front")[:].any()


def die(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "last_step", ["emu_robot.data.episode.Episode.meta", "emu_robot.data.replay_buffer.replace_json"]
)
def test_what_was_not_committed_does_not_exist(buffer, make_episode, monkeypatch, last_step):
    monkeypatch.setattr(last_step, die)
    with pytest.raises(KeyboardInterrupt):
        buffer.append(make_episode(7, n_frames=40))
    monkeypatch.undo()
    buffer.close()
    (buffer.path / "images" / "front" / "c.abc.partial").write_bytes(b"torn chunk")
    reopened = ReplayBuffer.open(buffer.path)
    assert (reopened.n_episodes, len(reopened.load("frames/state"))) == (4, 90)
    reopened.append(make_episode(8))
    last = ReplayBuffer.open(buffer.path)
    assert same(last.episode(4), make_episode(8)) and last.n_frames == 110
    assert not list(buffer.path.rglob("*.partial"))


def test_one_writer_at_a_time(buffer, make_episode):
    other = ReplayBuffer.open(buffer.path)
    with pytest.raises(SystemSetupError, match="another process is writing"):
        other.append(make_episode(5))


def test_open_names_what_is_wrong(tmp_path, buffer):
    with pytest.raises(DataError, match="nowhere: no such replay buffer"):
        ReplayBuffer.open(tmp_path / "nowhere")
    zarr.create_group(tmp_path / "other")
    with pytest.raises(DataError, match=r"other: not a replay buffer \(no index.json\)"):
        ReplayBuffer.open(tmp_path / "other")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: not a replay buffer"):
        ReplayBuffer.open(tmp_path / "file")
    with pytest.raises(DataError, match="already exists"):
        ReplayBuffer.create(buffer.path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', "null", "\x00\x00"])
def test_corrupted_index(buffer, text):
    (buffer.path / "index.json").write_text(text)
    with pytest.raises(DataError, match="index.json: "):
        ReplayBuffer.open(buffer.path)


def test_index_of_another_version_or_impossible_counts(buffer):
    index = json.loads((buffer.path / "index.json").read_text())
    for change in ({"format": "emu_robot replay buffer 99"}, {"n_frames": -1}, {"n_images": "many"}, {"cameras": 3}):
        (buffer.path / "index.json").write_text(json.dumps(index | change))
        with pytest.raises(DataError, match="index.json: expected format"):
            ReplayBuffer.open(buffer.path)
    (buffer.path / "index.json").write_text(json.dumps(index | {"n_frames": 10**6}))
    with pytest.raises(DataError, match="state: 90 rows, expected at least 1000000"):
        ReplayBuffer.open(buffer.path)


@pytest.mark.parametrize("name", ["episodes/metadata.jsonl", "images/front", "frames/state/zarr.json", "zarr.json"])
def test_missing_parts(buffer, name):
    (buffer.path / name).rename(buffer.path.parent / "moved")
    with pytest.raises(DataError, match="buffer"):
        ReplayBuffer.open(buffer.path)


def test_damaged_metadata(buffer):
    path = buffer.path / "episodes" / "metadata.jsonl"
    for data in (path.read_bytes()[:-10], b"\xff" * len(path.read_bytes())):
        path.write_bytes(data)
        with pytest.raises(DataError, match="buffer"):
            ReplayBuffer.open(buffer.path)


def test_episodes_that_do_not_fit_are_refused_whole(buffer, make_episode):
    with pytest.raises(ShapeError, match=r"images/front, one row: got \(32, 32, 3\), expected \(16, 16, 3\)"):
        buffer.extend([make_episode(5), make_episode(6, size=32)])
    with pytest.raises(ShapeError, match="frames/state"):
        buffer.append(make_episode(5, state=np.zeros((20, 9), np.float32)))
    with pytest.raises(DataError, match="cameras"):
        buffer.append(make_episode(5, images={"front": make_episode(5).images["front"]}))
    assert ReplayBuffer.open(buffer.path).n_episodes == 4
    assert zarr.open_array(buffer.path / "frames/state").shape == (90, 8)


def test_unknown_things(buffer):
    with pytest.raises(UnknownNameError, match="known: front, wrist"):
        buffer.images("side")
    with pytest.raises(UnknownNameError, match="known: front, wrist"):
        buffer.episode(0).images["side"]
    with pytest.raises(InvalidValueError, match="episode 4"):
        buffer.episode(4)


def test_an_empty_buffer_opens(tmp_path):
    buffer = ReplayBuffer.create(tmp_path / "empty")
    assert buffer.n_episodes == 0 and buffer.episode_ends.size == 0
    with pytest.raises(UnknownNameError):
        buffer.images("front")
