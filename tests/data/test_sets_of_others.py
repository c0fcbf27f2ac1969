"""LeRobotDatasets as other people record them: each comes in right, or one line refuses it and nothing is written."""

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot_sets import FPS, STATE_NAMES, SmallEpisode, edit_column, edit_json, small_episode, write_set
from PIL import Image as PillowImage

from emu_robot.data.merge import MergeConfig, merge
from emu_robot.data.prepare import PrepareConfig, prepare
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError, DataError, EmuRobotError, UnknownNameError

TABLE = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
IMAGES = {"dtype": "image", "size": (16, 16)}


def prepared(dataset: Path | str, out: Path, **settings: Any) -> ReplayBuffer:
    settings = {"workers": 0, "image_size": 16} | settings
    return ReplayBuffer.open(prepare(PrepareConfig(dataset=str(dataset), out=out, **settings)))


def small_set(root: Path, n: int = 2, **settings: Any) -> Path:
    return write_set(root, [small_episode(seed, n_subtasks=1) for seed in range(n)], **(IMAGES | settings))


def edit_features(root: Path, **changes: dict[str, Any]) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    for key, change in changes.items():
        info["features"][key.replace("__", ".")] |= change
    (root / "meta/info.json").write_text(json.dumps(info))


def travelling(seed: int, n: int = 40) -> SmallEpisode:
    """Two joints and a gripper; the joints are commanded by how far they move until the next frame."""
    rng = np.random.default_rng(seed)
    way = np.cumsum(np.sin(np.linspace(0, 6, n))[:, None] * 0.02 * rng.uniform(0.5, 1.5, 2), 0)
    gripper = (np.arange(n) > n // 2).astype(float)
    state = np.column_stack([way, gripper]).astype(np.float32)
    deltas = np.diff(way, axis=0, append=way[-1:])
    return SmallEpisode(state=state, commanded=np.column_stack([deltas, gripper]).astype(np.float32))


@pytest.mark.parametrize(("names", "said"), [(["d0", "d1", "gripper"], {}), (["dx", "dy", "gripper"], {})])
def test_twice_the_rate_is_not_twice_the_motion(tmp_path, names, said):
    episodes = [travelling(seed) for seed in range(3)]
    root = write_set(tmp_path / "set", episodes, names=names, **IMAGES)
    for hz in (5, 15, 20):
        buffer = prepared(root, tmp_path / f"out{hz}", control_hz=hz, **said)
        assert [str(kind) for kind in buffer.layout.action_kinds] == ["delta", "delta", "gripper"]
        assert buffer.layout.relative_dims == 0
        for i, given in enumerate(episodes):
            moved = buffer.episode(i).action[:, :2].sum(0)
            assert np.allclose(moved, given.action[:, :2].sum(0), atol=1e-4)
            assert set(buffer.episode(i).action[:, 2].tolist()) <= {0.0, 1.0}


def test_another_rate_is_refused_where_nothing_tells_what_the_actions_are(tmp_path):
    rng = np.random.default_rng(0)
    episodes = [travelling(seed) for seed in range(2)]
    for episode in episodes:
        assert episode.commanded is not None
        episode.commanded[:, 0] = rng.normal(size=len(episode))
    root = write_set(tmp_path / "set", episodes, names=["a", "b", "gripper"], **IMAGES)
    with pytest.raises(ConfigError, match=r"control_hz=20 from 10 Hz, but .* action.a are positions or deltas; say it"):
        prepared(root, tmp_path / "out", control_hz=20)
    assert not (tmp_path / "out").exists()
    said = prepared(root, tmp_path / "out", control_hz=20, kinds={"delta": ["action.*"]})
    assert np.allclose(said.episode(0).action[:, 0].sum(), episodes[0].action[:, 0].sum(), atol=1e-3)
    assert prepared(root, tmp_path / "same").n_episodes == 2, "at the set's own rate it need not be known"


def test_an_angle_never_passes_through_poses_that_no_frame_had(tmp_path):
    n = 30
    yaw = (np.linspace(2.5, 4.2, n) + np.pi) % (2 * np.pi) - np.pi
    state = np.column_stack([np.linspace(0, 1, n), yaw]).astype(np.float32)
    root = write_set(tmp_path / "set", [SmallEpisode(state=state)] * 2, names=["x", "yaw"], **IMAGES)
    buffer = prepared(root, tmp_path / "out", control_hz=20)
    assert [str(kind) for kind in buffer.layout.action_kinds] == ["position", "angle"]
    for values in (buffer.episode(0).state, buffer.episode(0).action):
        assert np.abs(values[:, 1]).min() > 2.0 and np.abs(values[:, 1]).max() <= np.pi + 1e-5


def test_switches_and_choices_are_never_fractions(tmp_path):
    episodes = [small_episode(seed, n_subtasks=1) for seed in range(2)]
    for episode in episodes:
        episode.columns = {"observation.button": np.arange(len(episode)) % 2 == 1, "mode": np.arange(len(episode)) % 3}
    root = write_set(tmp_path / "set", episodes, **IMAGES)
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.button"] = {"dtype": "bool", "shape": [1], "names": None}
    info["features"]["mode"] = {"dtype": "int64", "shape": [1], "names": ["mode"]}
    (root / "meta/info.json").write_text(json.dumps(info))
    joined = {"state": ["observation.state", "observation.button"], "action": ["action", "mode"]}
    buffer = prepared(root, tmp_path / "out", control_hz=25, **joined)
    assert buffer.layout.state_names == ("shoulder.pos", "elbow.pos", "observation.button.0", "gripper.pos")
    assert str(buffer.layout.action_kinds[2]) == "discrete" and buffer.layout.action_order == (1, 2, 3, 0)
    assert set(buffer.load("frames/state")[:, 2].tolist()) == {0.0, 1.0}
    assert set(buffer.load("frames/action")[:, 2].tolist()) == {0.0, 1.0, 2.0}


def test_the_same_folder_is_the_same_set_however_it_is_spelled(tmp_path, monkeypatch):
    small_set(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    assert prepared("set", tmp_path / "out").n_episodes == 2
    assert prepared(tmp_path / "set", tmp_path / "out").n_episodes == 2
    shutil.move(tmp_path / "set", tmp_path / "moved")
    assert prepared(tmp_path / "moved/../moved", tmp_path / "out").n_episodes == 2


def test_a_set_that_was_written_again_is_another_one(tmp_path):
    root = small_set(tmp_path / "set")
    prepared(root, tmp_path / "out")
    edit_column(root / TABLE, "action", lambda rows: [[value + 1 for value in row] for row in rows])
    with pytest.raises(ConfigError, match=r"out was prepared from other contents of .*set; give another out="):
        prepared(root, tmp_path / "out")
    shutil.rmtree(root)
    small_set(root, dtype="video")
    prepared(root, tmp_path / "video")
    video = next(root.glob("videos/**/*.mp4"))
    video.write_bytes(video.read_bytes() + b"\0")
    with pytest.raises(ConfigError, match="other contents"):
        prepared(root, tmp_path / "video")


def test_more_episodes_may_follow_and_fewer_are_refused(tmp_path):
    root = small_set(tmp_path / "set", 4)
    assert prepared(root, tmp_path / "out", n=3).n_episodes == 3
    with pytest.raises(ConfigError, match=r"out holds 3 episodes, n=2 asks for fewer; give another out="):
        prepared(root, tmp_path / "out", n=2)
    assert prepared(root, tmp_path / "out").n_episodes == 4


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"gripper": 0, "delta_x": 1, "delta_y": 2}, ("delta_x", "delta_y", "gripper")),
        ([["left_gripper", "j0", "j1"]], ("j0", "j1", "left_gripper")),
        ({"motors": ["grip_cmd", "a", "b"]}, ("a", "b", "grip_cmd")),
        (None, ("action.0", "action.1", "action.2")),
    ],
)
def test_names_of_every_form_are_read_and_grippers_found(tmp_path, names, expected):
    root = small_set(tmp_path / "set")
    edit_features(root, observation__state={"names": names}, action={"names": names})
    layout = prepared(root, tmp_path / "out").layout
    assert layout.action_names == expected and layout.n_grippers == (names is not None)
    assert layout.action_order == ((1, 2, 0) if names is not None else ())


def test_repeated_names_keep_their_places(tmp_path):
    rng = np.random.default_rng(0)
    state = np.cumsum(rng.normal(size=(30, 6)), 0).astype(np.float32)
    names = ["j1", "j2", "gripper"] * 2
    root = write_set(tmp_path / "set", [SmallEpisode(state=state)] * 2, names=names, **IMAGES)
    buffer = prepared(root, tmp_path / "out")
    assert buffer.layout.action_order == (0, 1, 3, 4, 2, 5) == buffer.layout.state_order
    assert np.array_equal(buffer.episode(0).state, state[:, [0, 1, 3, 4, 2, 5]])


def make_deep(root: Path, mode: str) -> None:
    """The pictures of `top` become numbers of 16 or 32 bits, without a mark that they are depth."""
    file = io.BytesIO()
    ramp = np.tile(np.linspace(400, 4000, 16), (16, 1))
    picture = PillowImage.fromarray(ramp.astype(np.uint16 if mode == "PNG" else np.float32))
    picture.save(file, mode)
    cell = {"bytes": file.getvalue(), "path": None}
    edit_column(root / TABLE, "observation.images.top", lambda cells: [cell] * len(cells))
    edit_features(root, **{"observation.images.top": {"shape": [16, 16, 1]}})


@pytest.mark.parametrize("mode", ["PNG", "TIFF"])
def test_depth_without_a_mark_is_no_camera(tmp_path, mode, capsys):
    root = small_set(tmp_path / "set", cameras=("side", "top"))
    make_deep(root, mode)
    assert prepared(root, tmp_path / "out").cameras == ("side",)
    said = "left out: camera top, which gives numbers of more than 8 bits"
    assert said in capsys.readouterr().out and said in (tmp_path / "out/segmentation.html").read_text()
    with pytest.raises(DataError, match="camera top gives numbers of more than 8 bits"):
        prepared(root, tmp_path / "other", cameras={"front": "top"})
    alone = small_set(tmp_path / "alone")
    make_deep(alone, mode)
    with pytest.raises(ConfigError, match="has no camera; top gives numbers of more than 8 bits"):
        prepared(alone, tmp_path / "other")


def test_one_deep_picture_among_others_is_named(tmp_path):
    root = small_set(tmp_path / "set")
    deep = io.BytesIO()
    PillowImage.fromarray(np.full((16, 16), 4000, np.uint16)).save(deep, "PNG")
    edit_column(
        root / TABLE,
        "observation.images.top",
        lambda cells: [*cells[:3], {"bytes": deep.getvalue(), "path": None}, *cells[4:]],
    )
    with pytest.raises(
        DataError, match="observation.images.top of episode 0, frame 3: holds numbers of more than 8 bits"
    ):
        prepared(root, tmp_path / "out")


def test_every_camera_comes_in_whatever_it_is_called(tmp_path, capsys):
    names = ("frame", "frames", "codes_frame", "cam.left", "cam_left")
    buffer = prepared(small_set(tmp_path / "set", cameras=names), tmp_path / "out")
    assert buffer.cameras == ("cam_left", "cam_left_2", "camera_codes_frame", "camera_frame", "camera_frames")
    assert "renamed: camera frames is camera_frames here" in capsys.readouterr().out
    assert np.array_equal(buffer.episode(0).image_frames, np.arange(len(buffer.episode(0))))
    with pytest.raises(ConfigError, match="no camera can be called 'frame'"):
        prepared(tmp_path / "set", tmp_path / "other", cameras={"frame": "frame"})


def test_an_episode_of_a_camera_that_could_not_be_stored_is_refused(tmp_path, make_episode):
    images = {"frames": np.zeros((5, 16, 16, 3), np.uint8)}
    with pytest.raises(ConfigError, match="no camera can be called 'frames'"):
        ReplayBuffer.create(tmp_path / "out").append(make_episode(0, images=images))


def test_sets_of_different_rates_are_not_merged(tmp_path):
    slow, quick = (prepared(small_set(tmp_path / f"{fps}", fps=fps), tmp_path / f"out{fps}") for fps in (10, 20))
    with pytest.raises(DataError, match=r"out20: rates \[Hz\]: 20; .*out10 has 10; they cannot be merged"):
        merge(MergeConfig(sources=[slow.path, quick.path], out=tmp_path / "merged"))
    assert not (tmp_path / "merged").exists()


def test_what_else_differs_is_named_as_well(tmp_path):
    first = prepared(small_set(tmp_path / "a"), tmp_path / "pa")
    other = prepared(small_set(tmp_path / "b", cameras=("side",)), tmp_path / "pb")
    with pytest.raises(DataError, match=r"pb: cameras: side; .*pa has top"):
        merge(MergeConfig(sources=[first.path, other.path], out=tmp_path / "merged"))
    other = prepared(small_set(tmp_path / "c", names=["gripper.pos", "a", "b"]), tmp_path / "pc")
    with pytest.raises(DataError, match=r"pc: state names: a, b, gripper.pos; .*pa has shoulder.pos"):
        merge(MergeConfig(sources=[first.path, other.path], out=tmp_path / "merged"))


def test_a_bad_episode_is_named_and_can_be_left_out(tmp_path, capsys):
    root = small_set(tmp_path / "set", 3)
    second = len(small_episode(0, n_subtasks=1))
    edit_column(
        root / TABLE,
        "observation.state",
        lambda rows: [[float("nan")] * 3 if i == second + 4 else row for i, row in enumerate(rows)],
    )
    with pytest.raises(
        DataError, match=r"of episode 1: frame 4 holds .* finite; exclude=\[1\] leaves that episode out"
    ):
        prepared(root, tmp_path / "out")
    buffer = prepared(root, tmp_path / "out", exclude=[1])
    assert [meta["seed"] for meta in buffer.metadata] == [0, 2]
    assert "left out: episodes 1, by exclude=" in capsys.readouterr().out
    with pytest.raises(UnknownNameError, match=r"episode of .* 7; known: 0, 1, 2"):
        prepared(root, tmp_path / "other", exclude=[7])
    with pytest.raises(ConfigError, match="exclude= leaves none of its 3 episodes"):
        prepared(root, tmp_path / "other", exclude=[0, 1, 2])


def test_what_is_not_used_may_be_broken(tmp_path):
    root = small_set(tmp_path / "set", cameras=("side", "top"), dtype="video")
    next(root.glob("videos/*side/**/*.mp4")).unlink()
    edit_json(root / "meta/stats.json", reward={"std": [float("nan")]}, extra="words")
    assert prepared(root, tmp_path / "out", cameras={"front": "top"}).cameras == ("front",)
    with pytest.raises(DataError, match=r"side/.*file-000.mp4: no such file; .* episode 0 name it"):
        prepared(root, tmp_path / "other")


@pytest.mark.parametrize(
    "stats",
    ["[]", "null", "3", '{"action": []}', '{"action": {"std": "x"}}', '{"action": {"std": [[1], [1, 2]]}}', "{"],
)
def test_statistics_of_any_content_give_one_line(tmp_path, stats):
    root = small_set(tmp_path / "set")
    (root / "meta/stats.json").write_text(stats)
    with pytest.raises(DataError, match=r"meta/stats.json: ") as caught:
        prepared(root, tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "feature", [3, [], {"dtype": 3}, {"dtype": "float32", "shape": "x"}, {"dtype": "float32", "shape": [-1]}]
)
def test_features_of_any_content_give_one_line(tmp_path, feature):
    root = small_set(tmp_path / "set")
    info = json.loads((root / "meta/info.json").read_text())
    edit_json(root / "meta/info.json", features=info["features"] | {"action": feature})
    with pytest.raises(DataError, match=r"meta/info.json: .*action") as caught:
        prepared(root, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_that_no_episode_succeeded_is_said_before_anything_is_trained(tmp_path, capsys):
    episodes = [small_episode(seed, n_subtasks=1) for seed in range(3)]
    for episode in episodes:
        episode.columns = {"next.success": [False] * len(episode)}
    root = write_set(tmp_path / "set", episodes, **IMAGES)
    with pytest.raises(DataError, match=r"next.success is False in all 3 episodes, so no .*; use_success=false"):
        prepared(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert all(meta["success"] for meta in prepared(root, tmp_path / "out", use_success=False).metadata)
    longer = [small_episode(seed, n_subtasks=3) for seed in range(2)]
    for episode in longer:
        episode.columns = {"next.success": [False] * len(episode)}
    prepared(write_set(tmp_path / "longer", longer, **IMAGES), tmp_path / "out2")
    assert "next.success is False in all 2 episodes: their last subtasks teach nothing" in capsys.readouterr().out


def test_a_video_never_shows_the_next_episode(tmp_path):
    root = small_set(tmp_path / "set", 3, dtype="video")
    length = len(small_episode(0, n_subtasks=1))
    begin = "videos/observation.images.top/from_timestamp"
    edit_column(root / EPISODES, begin, lambda rows: [rows[0], rows[1] - 1 / FPS, rows[2]])
    said = (
        rf"observation.images.top of episode 0 has {length} frames, but the next one begins after {length - 1} frames"
    )
    with pytest.raises(DataError, match=said):
        prepared(root, tmp_path / "out")
    edit_column(root / EPISODES, begin, lambda rows: [rows[0], rows[0], rows[2]])
    with pytest.raises(DataError, match=r"of episode 0 .* begins after 0 frames"):
        prepared(root, tmp_path / "out")


def test_words_in_a_video_need_not_be_utf_8(tmp_path):
    root = small_set(tmp_path / "set", dtype="video")
    plain = prepared(root, tmp_path / "plain").episode(0)
    video = next(root.rglob("*.mp4"))
    assert b"Lavf" in video.read_bytes()  # the muxer's name, among the file's words
    video.write_bytes(video.read_bytes().replace(b"Lavf", b"L\xe9vf"))
    assert np.array_equal(prepared(root, tmp_path / "out").episode(0).images["top"], plain.images["top"])


def test_sixty_hertz_of_thirty_repeat_pictures_evenly(tmp_path):
    root = small_set(tmp_path / "set", fps=30)
    plain = prepared(root, tmp_path / "plain", fit="stretch").episode(0)
    quick = prepared(root, tmp_path / "quick", control_hz=60, fit="stretch").episode(0)
    assert len(quick) == 2 * len(plain)
    assert np.array_equal(quick.images["top"], np.repeat(plain.images["top"], 2, axis=0))


def test_version_2_0_comes_in_and_older_ones_name_the_command(tmp_path):
    root = small_set(tmp_path / "set", version="v2.1")
    edit_json(root / "meta/info.json", codebase_version="v2.0")
    (root / "meta/episodes_stats.jsonl").unlink()
    assert prepared(root, tmp_path / "out").n_episodes == 2
    edit_json(root / "meta/info.json", codebase_version="v1.6")
    with pytest.raises(DataError, match=r"'v1.6', must be one of v2.0, v2.1, v3.0; .*convert_dataset_v1_to_v2.py"):
        prepared(root, tmp_path / "other")


def test_every_line_of_the_metadata_of_version_2_is_read_with_care(tmp_path):
    root = small_set(tmp_path / "set", version="v2.1")
    (root / "meta/episodes.jsonl").write_text("[1]\n")
    with pytest.raises(EmuRobotError, match="episodes.jsonl: holds a line that is no object"):
        prepared(root, tmp_path / "out")


def test_the_page_shows_what_was_understood(tmp_path):
    episodes = [small_episode(seed, n_subtasks=1, task=f"task {seed}") for seed in range(15)]
    root = write_set(tmp_path / "set", episodes, cameras=("side", "top"), names=STATE_NAMES, **IMAGES)
    prepared(root, tmp_path / "out", cameras={"front": "top"}, exclude=[3])
    page = (tmp_path / "out/segmentation.html").read_text()
    for said in (
        "front (in the set: top)",
        "gripper.pos, at the end of state and action",
        "relative to the state&#39;s elbow.pos",
        "action.0",
        "holding sends the last command",
        "left out: episodes 3",
        "1 s</text>",
    ):
        assert said in page, said
    shown = re.findall(r"<h3 id=[^>]*>\d+\. task (\d+)</h3>", page)
    assert [int(task) for task in shown] == [i for i in range(15) if i != 3], "every task is shown"
