"""Any LeRobotDataset becomes a replay buffer, or a clear error; both versions, labels and motion."""

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from lerobot_sets import FPS, edit_column, edit_json, picture, small_episode, write_set

from emu_robot.core import Image
from emu_robot.data import ordered_commits
from emu_robot.data import prepare as prepare_module
from emu_robot.data.prepare import PrepareConfig, prepare
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError, DataError, EmuRobotError, UnknownNameError

TABLE = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"


@pytest.fixture
def episodes():
    return [small_episode(seed, n_subtasks=1 + seed % 3, task=f"task {seed % 2}") for seed in range(4)]


def prepared(dataset: Path, out: Path, **settings: Any) -> ReplayBuffer:
    settings = {"workers": 0, "image_size": 32} | settings
    return ReplayBuffer.open(prepare(PrepareConfig(dataset=str(dataset), out=out, **settings)))


@pytest.mark.parametrize(("version", "dtype"), [("v3.0", "video"), ("v2.1", "video"), ("v3.0", "image")])
def test_every_kind_of_set_comes_in(tmp_path, episodes, version, dtype):
    root = write_set(tmp_path / "set", episodes, version=version, dtype=dtype, cameras=("top", "side"))
    buffer = prepared(root, tmp_path / "out", fit="stretch")
    assert buffer.cameras == ("side", "top") and buffer.n_episodes == 4
    assert buffer.layout.state_names == ("shoulder.pos", "elbow.pos", "gripper.pos")
    assert (buffer.layout.n_grippers, buffer.layout.relative_dims) == (1, 2)
    for i, given in enumerate(episodes):
        episode = buffer.episode(i)
        assert (episode.instruction, episode.fps, episode.success) == (given.task, FPS, True)
        assert np.array_equal(episode.state, given.state[:, [1, 2, 0]])
        assert np.array_equal(episode.action, given.action[:, [1, 2, 0]])
        assert np.array_equal(episode.image_frames, np.arange(len(given)))
        shown = np.stack([picture(i, t, (32, 32)) for t in range(len(given))]).astype(float)
        assert np.abs(episode.images["top"] - shown).mean() < 3
        assert np.abs(episode.images["side"] - (255 - shown)).mean() < 3
        assert len(episode.keyframes) == 1 + i % 3
        steps = ("open and close the gripper", "open and close the gripper (2)", "open and close the gripper (3)")
        many = tuple(f"{given.task}: {step}" for step in steps[: len(episode.keyframes)])
        assert episode.subtasks == (many if i % 3 else (given.task,))


def test_the_small_sets_are_what_lerobot_reads(tmp_path, episodes, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset

    new = write_set(tmp_path / "v3", episodes)
    old = write_set(tmp_path / "v2", episodes, version="v2.1")
    convert_dataset("local/v2", root=old, push_to_hub=False)
    for root in (new, old):
        dataset = LeRobotDataset("local/small", root=root, video_backend="pyav")
        frame: Any = dataset[len(episodes[0]) + 7]
        assert frame["task"] == "task 1" and np.array_equal(frame["observation.state"], episodes[1].state[7])
        seen = frame["observation.images.top"].numpy().transpose(1, 2, 0) * 255
        assert np.abs(seen - picture(1, 7, (48, 64))).mean() < 3
    assert prepared(old, tmp_path / "out").n_episodes == 4


def test_another_rate_and_fewer_pictures(tmp_path, episodes):
    root = write_set(tmp_path / "set", episodes)
    usual = prepared(root, tmp_path / "usual").episode(2)
    slow = prepared(root, tmp_path / "slow", control_hz=5, image_every=4).episode(2)
    assert slow.fps == 5 and len(slow) == -(-len(usual) // 2)
    assert np.array_equal(slow.state, usual.state[::2])
    assert np.abs(slow.keyframes * 2 - usual.keyframes).max() <= 1
    assert np.array_equal(slow.image_frames, np.unique([*range(0, len(slow), 4), *slow.starts, *slow.keyframes]))
    quick = prepared(root, tmp_path / "quick", control_hz=20).episode(2)
    assert np.allclose(quick.state[2:9:2], usual.state[1:5]) and set(quick.state[:, 2].tolist()) == {0.0, 100.0}


def test_depth_is_no_camera(tmp_path, episodes):
    root = write_set(tmp_path / "set", episodes, cameras=("top", "side"))
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.side"]["info"] = {"is_depth_map": True}
    (root / "meta/info.json").write_text(json.dumps(info))
    assert prepared(root, tmp_path / "out").cameras == ("top",)


def test_chosen_cameras_and_dimensions(tmp_path, episodes):
    root = write_set(tmp_path / "set", episodes, cameras=("top", "side"))
    chosen = {"cameras": {"front": "side"}, "state_names": ["elbow.pos", "gripper.pos"]}
    buffer = prepared(root, tmp_path / "out", **chosen, grippers=["gripper.pos"], n=2, fit="crop")
    assert buffer.cameras == ("front",) and buffer.n_episodes == 2
    assert buffer.layout.state_names == ("elbow.pos", "gripper.pos")
    assert buffer.layout.relative_dims == 0, "three actions cannot be targets of two states"


def labels(kind, episode) -> dict[str, Any]:
    """The second subtask begins at frame 7."""
    second = np.arange(len(episode)) >= 7
    if kind == "subtask_index":
        return {"subtask_index": second.astype(int), "keyframe": np.where(second, len(episode) - 1, 5)}
    rows = [{"content": text, "style": "subtask"} for text in ("reach", "return")]
    other = {"content": "go left", "style": "plan"}
    if kind == "language_persistent":
        stamped = [{**rows[0], "timestamp": 0.0}, {**other, "timestamp": 0.3}, {**rows[1], "timestamp": 0.7}]
        return {kind: [stamped] * len(episode)}
    return {kind: [[rows[0]] if t == 0 else [rows[1], other] if t == 7 else [] for t in range(len(episode))]}


@pytest.mark.parametrize("kind", ["subtask_index", "language_persistent", "language_events"])
def test_labels_of_the_set_are_used(tmp_path, kind):
    episodes = [small_episode(seed) for seed in range(2)]
    for episode in episodes:
        episode.columns = labels(kind, episode)
    root = write_set(tmp_path / "set", episodes, subtasks=("reach", "return") if kind == "subtask_index" else ())
    episode = prepared(root, tmp_path / "out").episode(1)
    assert episode.subtasks == ("reach", "return") and episode.starts.tolist() == [0, 7]
    assert episode.keyframes.tolist() == [5 if kind == "subtask_index" else 6, len(episode) - 1]
    unlabelled = prepared(root, tmp_path / "unlabelled", use_labels=False).episode(1)
    assert set(unlabelled.subtasks).isdisjoint(episode.subtasks) and unlabelled.starts[1] > 15


def test_a_task_that_changes_on_the_way_is_a_label(tmp_path):
    episodes = [small_episode(0, task="reach"), small_episode(1, task="return")]
    root = write_set(tmp_path / "set", episodes)
    edit_column(root / TABLE, "task_index", lambda values: [0] * 7 + [1] * (len(values) - 7))
    assert prepared(root, tmp_path / "out", n=1).episode(0).subtasks == ("reach", "return")


def test_a_failed_episode_lacks_its_last_keyframe(tmp_path):
    episodes = [small_episode(0), small_episode(1)]
    for episode, success in zip(episodes, (True, False), strict=True):
        episode.columns = {"next.success": [False] * (len(episode) - 1) + [success]}
    buffer = prepared(write_set(tmp_path / "set", episodes), tmp_path / "out")
    assert [len(buffer.episode(i).keyframes) for i in range(2)] == [2, 1]
    assert [buffer.episode(i).success for i in range(2)] == [True, False]


def caption(first: Image, last: Image, instruction: str) -> str:
    return f"{instruction} from {first.mean():.0f} to {last.mean():.0f}"


def test_a_captioner_words_what_was_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    root = write_set(tmp_path / "set", [small_episode(0), small_episode(1)])
    episode = prepared(root, tmp_path / "out", captioner="test_prepare:caption", fit="stretch").episode(0)
    images = episode.images["top"]
    assert episode.subtasks[1] == caption(images[episode.starts[1]], images[episode.keyframes[1]], "put it away")
    for name in ("test_prepare:nobody", "no_such_module:caption", "nonsense"):
        with pytest.raises(ConfigError, match="no such package"):
            prepared(root, tmp_path / "other", captioner=name)


def test_several_processes_make_the_same_and_an_interrupted_run_goes_on(tmp_path, episodes, monkeypatch):
    root = write_set(tmp_path / "set", episodes)
    whole = prepared(root, tmp_path / "whole")
    extend = ReplayBuffer.extend

    def stop_after_two(buffer, more):
        if buffer.n_episodes == 2:
            raise KeyboardInterrupt
        extend(buffer, more)

    monkeypatch.setattr(ordered_commits, "COMMITTED_AT_ONCE", 2)
    monkeypatch.setattr(ReplayBuffer, "extend", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        prepared(root, tmp_path / "out", workers=2)
    monkeypatch.undo()
    assert ReplayBuffer.open(tmp_path / "out").n_episodes == 2
    converted = []
    convert = prepare_module.Converter.convert
    monkeypatch.setattr(
        prepare_module.Converter, "convert", lambda self, e, s: converted.append(e.index) or convert(self, e, s)
    )
    again = prepared(root, tmp_path / "out")
    assert set(converted) <= {2, 3}
    assert again.metadata == whole.metadata
    for name in ("frames/state", "images/frame"):
        assert np.array_equal(again.load(name), whole.load(name))
    assert np.array_equal(again.images("top")[:], whole.images("top")[:])
    converted.clear()
    prepared(root, tmp_path / "out")
    assert not converted and not multiprocessing.active_children()
    with pytest.raises(ConfigError, match=r"image_size=16 \(was 32\)"):
        prepared(root, tmp_path / "out", image_size=16)


def test_the_page_shows_every_subtask(tmp_path, episodes):
    prepared(write_set(tmp_path / "set", episodes), tmp_path / "out")
    page = (tmp_path / "out/segmentation.html").read_text()
    assert page.count("<figure>") == 1 + 2 + 3 + 1 and page.count("data:image/jpeg") == 14
    assert "task 1" in page and "http" not in page


def test_the_page_groups_many_tasks_and_stays_light(tmp_path, capsys):
    episodes = [small_episode(i, n_subtasks=1, task=f"Task {i % 30}") for i in range(30)]
    episodes += [small_episode(40, n_subtasks=2, task="task 3")]
    prepared(write_set(tmp_path / "set", episodes), tmp_path / "out", cameras={"front": "top"})
    page = (tmp_path / "out/segmentation.html").read_text()
    for i in range(1, 31):
        assert page.count(f'href="#task-{i}"') == page.count(f'id="task-{i}"') == 1
    assert page.count("<h4>Episode") == 30, "a task of two spellings is one task"
    assert '<a href="#task-4">Task 3</a> <span class="note">2 episodes, 1 to 2 subtasks' in page
    assert len(page) < 500_000
    told = capsys.readouterr().out
    assert "renamed: camera top is front here" in told
    assert "one subtask in every episode of 29 of 30 tasks (Task 0, Task 1, Task 2, ...): " in told
    record = json.loads((tmp_path / "out/prepared.json").read_text())
    assert len(record["notes"]) == 2 and all(note in told and note in page for note in record["notes"])
    assert record["camera_features"] == {"front": "observation.images.top"}


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace_cell(values, row, value):
    return [*values[:row], value, *values[row + 1 :]]


VIDEO = "videos/observation.images.top/chunk-000/file-000.mp4"
STATE = "observation.state"
BROKEN = {
    "no info": (lambda r: (r / "meta/info.json").unlink(), r"meta/info.json: no such file"),
    "info is no json": (lambda r: cut_short(r / "meta/info.json"), r"meta/info.json: not readable JSON"),
    "version": (lambda r: edit_json(r / "meta/info.json", codebase_version="v1.6"), r"'v1.6'.*v2.1, v3.0"),
    "fps": (lambda r: edit_json(r / "meta/info.json", fps=0), r"info.json: fps is 0"),
    "no features": (lambda r: edit_json(r / "meta/info.json", features=None), r"info.json: features is None"),
    "traversal": (
        lambda r: edit_json(r / "meta/info.json", data_path="../../etc/{chunk_index}.parquet"),
        r"info.json: the path '../../etc/0.parquet' leads out",
    ),
    "template": (lambda r: edit_json(r / "meta/info.json", data_path="{x}.parquet"), r"data_path is '{x}.parquet'"),
    "table is cut short": (lambda r: cut_short(r / TABLE), r"file-000.parquet: not a readable parquet"),
    "episodes are cut short": (lambda r: cut_short(r / EPISODES), r"file-000.parquet: not a readable parquet"),
    "no episodes": (lambda r: shutil.rmtree(r / "meta/episodes"), r"set: holds no episodes"),
    "video is cut short": (lambda r: cut_short(r / VIDEO), r"file-000.mp4: (cannot be decoded|no frame)"),
    "video is gone": (lambda r: (r / VIDEO).unlink(), r"file-000.mp4: no such file"),
    "empty episode": (lambda r: edit_column(r / EPISODES, "length", lambda v: [0, *v[1:]]), r"of episode 0, the meta"),
    "no task": (
        lambda r: edit_column(r / EPISODES, "tasks", lambda v: [[""], *v[1:]]),
        r"episode 0: tasks are \[''\], expected an instruction; exclude=\[0\]",
    ),
    "frames are missing": (
        lambda r: edit_column(r / EPISODES, "length", lambda v: [*v[:-1], v[-1] + 1]),
        r"22 frames of episode 3, the metadata say 23",
    ),
    "ragged time": (
        lambda r: edit_column(r / TABLE, "timestamp", lambda v: replace_cell(v, 5, 0.56)),
        r"timestamp of episode 0: 0.16\d* s after frame 4, expected 0.1000 s",
    ),
    "nan": (
        lambda r: edit_column(r / TABLE, STATE, lambda v: replace_cell(v, 3, [0.0, np.nan, 0.0])),
        r"observation.state of episode 0: frame 3 holds values that are not finite",
    ),
    "ragged state": (
        lambda r: edit_column(r / TABLE, STATE, lambda v: replace_cell(v, 3, [0.0, 0.0])),
        r"observation.state of episode 0: rows of different lengths",
    ),
    "width": (
        lambda r: edit_column(r / TABLE, "action", lambda v: [row[:2] for row in v]),
        r"action of episode 0: 2 dimensions, meta/info.json says 3",
    ),
    "no action": (lambda r: edit_column(r / TABLE, "action", lambda v: None), r"no column 'action'; it has"),
    "constant action": (
        lambda r: edit_column(r / TABLE, "action", lambda v: [[1.0, 2.0, 3.0] for _ in v]),
        r"action is constant in every episode",
    ),
    "constant state": (
        lambda r: edit_column(r / TABLE, STATE, lambda v: [[1.0, 2.0, 3.0] for _ in v]),
        r"no state dimension ever changes",
    ),
    "stats": (
        lambda r: (r / "meta/stats.json").write_text('{"action": {"std": [NaN, 1, 1]}}'),
        r"meta/stats.json: std of action holds values that are not finite",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_named(tmp_path, episodes, what):
    root = write_set(tmp_path / "set", episodes)
    damage, message = BROKEN[what]
    damage(root)
    with pytest.raises(DataError, match=message):
        prepared(root, tmp_path / "out")
    if what == "video is cut short":
        return
    assert not (tmp_path / "out").exists(), "nothing is written before everything was read"


def test_labels_that_make_no_sense(tmp_path):
    episode = small_episode(0)
    episode.columns = labels("subtask_index", episode)
    root = write_set(tmp_path / "set", [episode], subtasks=("reach",))
    with pytest.raises(DataError, match="subtask_index 1 of episode 0 has no text"):
        prepared(root, tmp_path / "out")
    episode.columns = labels("subtask_index", episode) | {"keyframe": [9] * len(episode)}
    with pytest.raises(DataError, match="keyframe of episode 0 lies outside"):
        prepared(write_set(tmp_path / "other", [episode], subtasks=("reach", "return")), tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"cameras": {"front": "wrist"}}, UnknownNameError, "camera .*'wrist'; known: top"),
        ({"state": ["observation.environment_state"]}, UnknownNameError, "feature .*known: observation.state, action"),
        ({"action_names": ["wrist.pos"]}, UnknownNameError, "'wrist.pos'; known: gripper.pos, shoulder.pos"),
        ({"grippers": ["hand"]}, UnknownNameError, "'hand'; known: gripper.pos"),
        ({"action_names": ["elbow.pos"]}, ConfigError, "1 grippers in the state, 0 in the action"),
    ],
)
def test_what_does_not_exist_is_answered_with_what_does(tmp_path, episodes, settings, error, message):
    root = write_set(tmp_path / "set", episodes)
    with pytest.raises(error, match=message):
        prepared(root, tmp_path / "out", **settings)


def test_a_set_that_is_not_here(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="nobody/nothing: no such folder, and the hub gave no dataset"):
        prepare(PrepareConfig(dataset="nobody/nothing", out=tmp_path / "out"))
    with pytest.raises(DataError, match=r"\./nothing: no such folder"):
        prepare(PrepareConfig(dataset="./nothing", out=tmp_path / "out"))
    with pytest.raises(ConfigError, match="dataset= is missing"):
        prepare(PrepareConfig(out=tmp_path / "out"))
    with pytest.raises(EmuRobotError):
        prepare(PrepareConfig(dataset=str(Path(__file__).parent), out=tmp_path / "out"))


def test_tables_are_read_once_per_file(tmp_path, episodes, monkeypatch):
    root = write_set(tmp_path / "set", episodes)
    read = []
    monkeypatch.setattr(pq, "read_table", lambda path, f=pq.read_table: read.append(path) or f(path))
    prepared(root, tmp_path / "out")
    assert len([path for path in read if path.parent.parent.name == "data"]) == 1
