"""Recordings become a LeRobotDataset that holds what was recorded, or a clear error."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import DatasetCard
from recordings import (
    AHEAD,
    TASK,
    Sent,
    commanded_at,
    episode_state,
    joints_at,
    opening_at,
    picture,
    subgoal,
    write_recording,
)
from robots import HAND_APART, SIX_JOINTS, write_robot

from emu_robot.cli.main import main
from emu_robot.data.from_mcap import FromMcapConfig, Take, find_recordings, from_mcap, make_episode
from emu_robot.data.mcap_messages import message
from emu_robot.data.mcap_recording import Recorded, read_recorded
from emu_robot.data.recorded_episode import planned_subtasks, resample, succeeded
from emu_robot.errors import ConfigError, DataError, EmuRobotError, UnknownNameError
from emu_robot.robots.deployment import ROBOTS, find_deployment

PLAN = (subgoal(0.0, 1, "open the drawer"), subgoal(0.9, 2, "put the cup in"), subgoal(1.6, 3, ""))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def mcap_of(folder: Path) -> Path:
    return next(folder.glob("*.mcap"))


def read(folder: Path, **said: str) -> Recorded:
    return read_recorded(mcap_of(folder), **said)


def numbers_of(recorded: Recorded, **changes: Any):
    return resample(recorded, **{"control_hz": 20, "max_gap_s": 0.25} | changes)


def load(root: Path) -> Any:
    """The dataset as LeRobot reads it."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("local/test", root=root, video_backend="pyav")


def test_lerobot_loads_what_was_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recordings = tmp_path / "recordings"
    write_recording(recordings / "a", PLAN, seconds=2.0)
    write_recording(recordings / "b", [*PLAN[:2], episode_state(1.5, False)], seconds=1.5, task="do nothing")
    alone = write_recording(tmp_path / "c", [episode_state(1.0, True)], seconds=1.5)
    words = [f"recording={recordings}", f"recording={mcap_of(alone)}", f"out={tmp_path / 'set'}", "image_size=32"]
    assert main(["data", "from-mcap", *words]) == 0
    assert "3 episodes" in capsys.readouterr().out and not (tmp_path / "set.converting").exists()

    dataset = load(tmp_path / "set")
    lengths = [int((seconds - 0.01 - 0.05) * 20) for seconds in (2.0, 1.5, 1.5)]
    assert (dataset.num_episodes, dataset.num_frames, dataset.fps) == (3, sum(lengths), 20)
    names = [*(f"joint{i}.pos" for i in range(1, 8)), "gripper.pos"]
    assert dataset.features["observation.state"]["names"] == dataset.features["action"]["names"] == names
    assert dataset.meta.robot_type == "panda_sim"
    for i in (0, 7, 23, lengths[0] - 1, lengths[0] + 3):
        t = i if i < lengths[0] else i - lengths[0]
        check_frame(dataset[i], t, 0.05 + t / 20)
    tasks = [dataset[i]["task"] for i in (0, lengths[0], lengths[0] + lengths[1])]
    assert tasks == [TASK, "do nothing", TASK]
    frame: Any = dataset[lengths[0] - 1]
    said = [(row["content"], round(row["timestamp"] * 20)) for row in frame["language_persistent"]]
    assert said == [("open the drawer", 0), ("put the cup in", 17)]
    assert int(dataset[0]["keyframe"]) == 16 and int(frame["keyframe"]) == math.ceil((1.6 - 0.05) * 20 - 1e-9)
    ends = np.cumsum(lengths) - 1
    assert [bool(dataset[int(i)]["next.success"]) for i in ends] == [True, False, True]


def compressed_wrist(path: Path) -> str:
    """A robot's file in which one of the two cameras is compressed."""
    text = (ROBOTS / "panda_sim.yaml").read_text()
    path.write_text(text.replace("wrist/image_raw", "wrist/image_raw/compressed"))
    return str(path)


def test_compressed_cameras_are_converted_like_others(tmp_path: Path):
    robot = compressed_wrist(tmp_path / "packed.yaml")
    recording = write_recording(tmp_path / "a", PLAN, robot=robot, seconds=1.0)
    size = mcap_of(recording).stat().st_size
    dataset = load(from_mcap(FromMcapConfig(recording=[recording], out=tmp_path / "set", image_size=32)))
    for t in range(0, dataset.num_frames, 5):
        check_frame(dataset[t], t, 0.05 + t / 20)
    raw = write_recording(tmp_path / "b", PLAN, seconds=1.0)
    assert size < 0.7 * mcap_of(raw).stat().st_size, "it is recorded as it is"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"format": "16UC1; compressedDepth png"},
            "compressed image format '16UC1; compressedDepth png'; known: 'jpeg'",
        ),
        ({"data": np.zeros(9, np.uint8)}, "JPEG picture that is damaged, cut off, or none"),
    ],
)
def test_a_compressed_picture_that_is_none(tmp_path: Path, changes: dict[str, Any], said: str):
    topic, robot = "/wrist/image_raw/compressed", compressed_wrist(tmp_path / "packed.yaml")
    folder = write_recording(tmp_path / "a", robot=robot, changes=changed(topic, **changes))
    with pytest.raises(DataError, match=f"picture 31 on {topic}: {said}"):
        from_mcap(FromMcapConfig(recording=[folder], out=tmp_path / "set", control_hz=30))


def check_frame(frame: Any, t: int, time: float) -> None:
    """Tick `t`, at `time` [s] of its recording, against the functions that it was made of."""
    assert int(frame["frame_index"]) == t
    assert np.allclose(frame["observation.state"], [*joints_at(time), 0.5], atol=1e-4)
    assert np.allclose(frame["action"], [*commanded_at(time + 0.05), opening_at(time + 0.05)], atol=1e-4)
    number = int((time - 0.05) * 30 + 1e-6)
    for camera in ("front", "wrist"):
        seen = frame[f"observation.images.{camera}"].numpy().transpose(1, 2, 0) * 255
        assert np.abs(seen[4:28] - picture(number)[::2, ::2]).mean() < 2.5  # half of 48 rows, padded to 32
        assert seen[:3].mean() < 6


def test_the_card_says_where_it_comes_from(tmp_path: Path):
    recording = write_recording(tmp_path / "a", [*PLAN, episode_state(1.0, True)], seconds=1.0)
    out = from_mcap(FromMcapConfig(recording=[recording], out=tmp_path / "set", image_size=32, license="cc-by-4.0"))
    card = DatasetCard.load(out / "README.md")
    assert card.data.to_dict()["license"] == "cc-by-4.0"
    assert "robot `panda_sim`, recorded from its ROS 2 graph" in card.text and "Weights of the policy" in card.text
    assert "emu_robot 0.1.0" in card.text and "Simulated, not real." in card.text
    assert "joint-position targets [rad]" in card.text and "| recorded | seen | 1 | 1 | 77 |" in card.text


def test_without_a_planner_subtasks_come_from_motion(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folders = [write_recording(tmp_path / name, seconds=4.0) for name in "ab"]
    out = from_mcap(FromMcapConfig(recording=folders, out=tmp_path / "set", image_size=32))
    assert "subtasks from motion (2) by " in capsys.readouterr().out
    frame: Any = load(out)[0]
    words = [row["content"] for row in frame["language_persistent"]]
    assert len(words) == len(set(words)) > 1 and all(text.startswith(f"{TASK}: ") for text in words)


# -- subtasks


@pytest.mark.parametrize(
    ("said", "words", "starts", "keyframes", "success"),
    [
        (PLAN, ("open the drawer", "put the cup in"), [0, 17], [16, 31], True),
        (PLAN[:2], ("open the drawer", "put the cup in"), [0, 17], [16, 37], False),
        ([subgoal(0.5, 1, "wait")], ("wait",), [0], [37], False),
        # the last of several between two ticks counts, one sent twice does not begin anew
        (
            [PLAN[0], subgoal(0.905, 2, "no"), subgoal(0.91, 3, "yes"), subgoal(1.2, 3, "yes")],
            ("open the drawer", "yes"), [0, 18], [17, 37], False,
        ),
        # what a planner said before of another task is over with its completion
        ([subgoal(0.0, 8, ""), subgoal(0.4, 9, "go")], ("go",), [0], [37], False),
    ],
)  # fmt: skip
def test_subgoals_become_subtasks(tmp_path: Path, said, words, starts, keyframes, success):
    recorded = read(write_recording(tmp_path / "a", said))
    found = planned_subtasks(recorded, numbers_of(recorded).times)
    assert found is not None and found.subtasks == words
    assert found.starts.tolist() == starts and found.keyframes.tolist() == keyframes
    assert succeeded(recorded) is success


def test_a_stop_ends_the_episode(tmp_path: Path):
    said = [subgoal(0.0, 1, "", ""), subgoal(0.2, 2, "reach"), subgoal(1.05, 3, "", "")]
    recorded = read(write_recording(tmp_path / "a", said))
    numbers = numbers_of(recorded)
    assert len(numbers.times) == 20 and not succeeded(recorded)
    episode = make_episode(4, Take(recorded, numbers), planned_subtasks(recorded, numbers.times), FromMcapConfig())  # pyright: ignore
    episode.validate()
    assert episode.keyframes.tolist() == [] and (episode.seed, episode.success) == (4, False)


def test_the_simulation_knows_better_than_the_planner(tmp_path: Path):
    for k, success in enumerate((True, False)):
        state = [episode_state(0.3, not success), episode_state(1.5, success)]
        recorded = read(write_recording(tmp_path / f"{k}", [*PLAN, *state]))
        assert succeeded(recorded) is success and recorded.seed == 77


# -- robots


def test_a_gripper_that_takes_an_action_is_read_from_chunks(tmp_path: Path):
    robot = "franka_fr3"
    names = [*(f"fr3_joint{i}" for i in range(1, 8)), "fr3_finger_joint1"]

    def chunk(time: float, opening: float, **changes: Any) -> Sent:
        actions = np.array([[0.0] * 7 + [opening], [0.0] * 7 + [0.1]]).ravel()
        said = message("emu_robot_interfaces/ActionChunk", **{"names": names, "dt": 0.5, "actions": actions} | changes)
        return Sent(time, "/action_chunk", "emu_robot_interfaces/msg/ActionChunk", said)

    refused = [chunk(1.6, math.nan), chunk(1.6, 0.9, names=names[:3]), chunk(1.6, 0.9, dt=0.0)]
    said = [chunk(0.5, 1.0), chunk(1.5, 0.7), *refused]
    numbers = numbers_of(read(write_recording(tmp_path / "a", said, robot=robot)))
    ends = numbers.times + 0.05
    wanted = np.select([ends < 0.5 - 1e-6, ends < 1.0 - 1e-6, ends < 1.5 - 1e-6, ends < 2.0], [0.5, 1.0, 0.1, 0.7])
    assert np.abs(numbers.action[:, 7] - wanted).max() < 1e-6
    assert numbers.state[:, 7] == pytest.approx(0.5)


def test_positions_are_commanded_for_at_once(tmp_path: Path):
    values = yaml.safe_load((ROBOTS / "panda_sim.yaml").read_text())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values | {"kind": "positions", "name": "mine"}))
    numbers = numbers_of(read(write_recording(tmp_path / "a", robot=str(path))))
    expected = np.stack([commanded_at(time + 0.05) for time in numbers.times])
    assert np.allclose(numbers.action[:, :7], expected, atol=1e-3)


def test_a_robot_without_gripper_becomes_a_dataset_of_its_joints(tmp_path: Path):
    recording = write_recording(tmp_path / "a", PLAN, robot=str(write_robot(tmp_path, SIX_JOINTS)))
    recorded = read(recording)
    assert recorded.contract is not None and recorded.gripper is None
    assert [role for role in recorded.contract.topics if "gripper" in role] == []
    out = from_mcap(FromMcapConfig(recording=[recording], out=tmp_path / "set", image_size=32))
    dataset = load(out)
    names = [f"{joint}.pos" for joint in recorded.robot.joints.names]
    assert dataset.features["observation.state"]["names"] == dataset.features["action"]["names"] == names
    assert np.allclose(dataset[9]["observation.state"], joints_at(0.05 + 9 / 20, 6), atol=1e-4)
    assert np.allclose(dataset[9]["action"], commanded_at(0.05 + 10 / 20, 6), atol=1e-4)
    assert dataset.meta.robot_type == "six"


def test_chunks_say_nothing_of_a_gripper_that_is_not_there(tmp_path: Path):
    names = ["base", "shoulder", "elbow", "wrist_1", "wrist_2", "wrist_3"]
    said = message("emu_robot_interfaces/ActionChunk", names=names, dt=0.5, actions=np.full(12, 9.0))
    chunk = Sent(0.5, "/action_chunk", "emu_robot_interfaces/msg/ActionChunk", said)
    recorded = read(write_recording(tmp_path / "a", [chunk], robot=str(write_robot(tmp_path, SIX_JOINTS))))
    numbers = numbers_of(recorded)
    assert not recorded.chunks and numbers.action.shape == numbers.state.shape == (38, 6)
    assert np.abs(numbers.action).max() < 2.0


def test_without_a_planner_subtasks_of_a_robot_without_gripper_come_from_motion(tmp_path: Path):
    robot = str(write_robot(tmp_path, SIX_JOINTS))
    folders = [write_recording(tmp_path / name, seconds=4.0, robot=robot) for name in "ab"]
    out = from_mcap(FromMcapConfig(recording=folders, out=tmp_path / "set", image_size=32))
    assert load(out).num_episodes == 2


def test_a_gripper_with_joint_states_of_its_own_is_read_from_there(tmp_path: Path):
    def also_stale_with_the_arm(sent: list[Sent]) -> list[Sent]:
        for one in sent:
            if one.topic == "/joint_states":
                one.message.name.append("finger")
                one.message.position = np.append(one.message.position, 0.0)
        return sent

    robot = str(write_robot(tmp_path, HAND_APART))
    recorded = read(write_recording(tmp_path / "a", robot=robot, changes=also_stale_with_the_arm))
    assert recorded.joints["finger"].topic == "/hand/joint_states"
    numbers = numbers_of(recorded)
    assert numbers.state[:, 6] == pytest.approx(0.5) and numbers.action[0, 6] == 1.0
    with pytest.raises(DataError, match=r"no joint state on /hand/joint_states; it has .*/joint_states \(200\)"):
        read(write_recording(tmp_path / "b", robot=robot, changes=without("/hand/joint_states")))
    with pytest.raises(DataError, match="/hand/joint_states: nothing from 0.50 to 1.00 s"):
        numbers_of(read(write_recording(tmp_path / "c", robot=robot, changes=silent("/hand/joint_states", 0.5, 1.0))))


def test_robots_with_and_without_gripper_do_not_go_into_one_dataset(tmp_path: Path):
    first = write_recording(tmp_path / "a", robot=str(write_robot(tmp_path, SIX_JOINTS)))
    second = write_recording(tmp_path / "b", robot=str(write_robot(tmp_path, HAND_APART)))
    with pytest.raises(DataError, match="another robot, apart, than six"):
        from_mcap(FromMcapConfig(recording=[first, second], out=tmp_path / "set"))


def test_other_rates(tmp_path: Path):
    recorded = read(write_recording(tmp_path / "a"))
    for hz in (5, 50):
        numbers = numbers_of(recorded, control_hz=hz)
        assert np.diff(numbers.times) == pytest.approx(1 / hz)
        expected = np.stack([commanded_at(time + 1 / hz) for time in numbers.times])
        assert np.allclose(numbers.action[:, :7], expected, atol=1e-4)


# -- what others made, and what is broken


def drop_contract(path: Path) -> Path:
    """The same messages in a file of another recorder: no contract, its chunks compressed."""
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer

    out = path.with_name("others")
    writer = Writer(out, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with Reader(mcap_of(path)) as reader, writer:
        kept = [connection for connection in reader.connections if connection.topic != "/recording_contract"]
        new = {
            one.topic: writer.add_connection(one.topic, one.msgtype, msgdef=one.msgdef.data, rihs01="RIHS01_0")
            for one in kept
        }
        for connection, time_ns, data in reader.messages(kept):
            writer.write(new[connection.topic], time_ns, data)
    return out


def test_a_recording_of_another_recorder_needs_robot_and_task(tmp_path: Path):
    ours = write_recording(tmp_path / "a")
    others = drop_contract(ours)
    with pytest.raises(DataError, match="has no contract.*robot= and task="):
        read(others)
    with pytest.raises(DataError, match="say task="):
        read(others, robot="panda_sim")
    with pytest.raises(DataError, match="no picture of camera front on /left/front/image_raw"):
        read(others, robot="panda_sim", namespace="left", task="wave")
    found, known = read(others, robot="panda_sim", task="wave"), read(ours)
    assert found.task == "wave" and found.contract is None
    assert np.array_equal(numbers_of(found).action, numbers_of(known).action)
    with pytest.raises(UnknownNameError, match="unknown robot 'pand'"):
        read(others, robot="pand", task="wave")


def test_a_recording_that_was_never_closed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    whole = mcap_of(write_recording(tmp_path / "a", PLAN, seconds=6.0))
    data = whole.read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(data[: int(0.6 * len(data))])
    full, found = read_recorded(whole), read_recorded(cut)
    assert full.is_whole and not found.is_whole
    before, after = numbers_of(full), numbers_of(found)
    n = len(after.times)
    assert 10 < n < len(before.times) and np.array_equal(before.state[:n], after.state)
    from_mcap(FromMcapConfig(recording=[cut], out=tmp_path / "set", image_size=32))
    assert "cut.mcap: not closed, or still being written; taken up to" in capsys.readouterr().out
    cut.write_bytes(data[: len(data) // 2] + data[len(data) // 2 + 1000 :])
    with pytest.raises(DataError, match="damaged"):
        read_recorded(cut)


def without(topic: str) -> Callable[[list[Sent]], list[Sent]]:
    return lambda sent: [one for one in sent if one.topic != topic]


def silent(topic: str, begin: float, end: float) -> Callable[[list[Sent]], list[Sent]]:
    return lambda sent: [one for one in sent if one.topic != topic or not begin < one.time < end]


def changed(topic: str, **fields: Any) -> Callable[[list[Sent]], list[Sent]]:
    """With the 30th message on that topic made wrong."""

    def change(sent: list[Sent]) -> list[Sent]:
        one = [one for one in sent if one.topic == topic][30]
        for name, value in fields.items():
            setattr(one.message, name, value)
        return sent

    return change


def set_clock_back(sent: list[Sent]) -> list[Sent]:
    return [one._replace(time=one.time - 0.5) if one.time > 1.0 else one for one in sent]


def restamp(sent: list[Sent]) -> list[Sent]:
    one = [one for one in sent if one.topic == "/front/image_raw"][30]
    one.message.header.stamp.sec -= 3
    return sent


def retype(sent: list[Sent]) -> list[Sent]:
    said = message("std_msgs/String", data="hello")
    rest = without("/front/image_raw")(sent)
    return [*rest, Sent(rest[-1].time, "/front/image_raw", "std_msgs/msg/String", said)]


ARM = "/arm_controller/joint_trajectory"
BROKEN: dict[str, tuple[Callable[[list[Sent]], list[Sent]], str]] = {
    "no camera": (without("/wrist/image_raw"), r"no picture of camera wrist on /wrist/image_raw; it has .*/front"),
    "no joint states": (without("/joint_states"), r"no joint state on /joint_states; it has /arm_controller"),
    "no commands": (without(ARM), r"no command on /arm_controller/joint_trajectory"),
    "no gripper": (without("/gripper_controller/joint_trajectory"), r"no command on /gripper_controller"),
    "nothing": (lambda sent: [], r"no picture of camera front on /front/image_raw; it has /recording_contract"),
    "camera froze": (silent("/front/image_raw", 0.7, 1.2), r"/front/image_raw: nothing from 0.68 to 1.22 s"),
    "states stopped": (silent("/joint_states", 0.5, 0.8), r"/joint_states: nothing from 0.50 to 0.80 s, .*=0.25"),
    "disarmed": (silent(ARM, 1.0, 1.5), r"/arm_controller/joint_trajectory: nothing from 1.0\d to 1.5\d s"),
    "too short": (lambda sent: [one for one in sent if one.time < 0.12], r"too short.*/front/image_raw 0.05 to 0.12 s"),
    "clock set back": (set_clock_back, r"times run backwards by 0.4\d\d s after 0.9"),
    "stamps": (restamp, r"/front/image_raw: stamps run backwards by 2.967 s"),
    "wrong type": (retype, r"/front/image_raw at 1.99\d? s: std_msgs/msg/String, expected sensor_msgs/msg/Image"),
    "another joint": (changed(ARM, joint_names=["a"] * 7), r"command of 7 positions for \['a'.*robot has \['joint1'"),
    "many points": (changed(ARM, points=[]), r"trajectory of 0 points; the safety gate sends one"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_named(tmp_path: Path, what: str):
    changes, said = BROKEN[what]
    folder = write_recording(tmp_path / "a", changes=changes)
    with pytest.raises(DataError, match=said):
        from_mcap(FromMcapConfig(recording=[folder], out=tmp_path / "set"))
    assert {path.name for path in tmp_path.iterdir()} == {"a"}, "nothing is written before everything was read"


def test_a_joint_that_nobody_reports(tmp_path: Path):
    def rename(sent: list[Sent]) -> list[Sent]:
        for one in sent:
            if one.topic == "/joint_states":
                one.message.name[2] = "elbow"
        return sent

    with pytest.raises(DataError, match="no joint joint3 on /joint_states; there are joint1, joint2, elbow"):
        read(write_recording(tmp_path / "a", changes=rename))


@pytest.mark.parametrize(
    ("field", "value", "said"), [("encoding", "bayer", "'bayer'; known: rgb8"), ("width", 99, "image data")]
)
def test_a_picture_that_is_none(tmp_path: Path, field: str, value: object, said: str):
    folder = write_recording(tmp_path / "a", changes=changed("/front/image_raw", **{field: value}))
    with pytest.raises(DataError, match=f"picture 31 on /front/image_raw: .*{said}"):
        from_mcap(FromMcapConfig(recording=[folder], out=tmp_path / "set", control_hz=30))
    assert not (tmp_path / "set").exists()


def test_what_is_no_recording(tmp_path: Path):
    def convert(*paths: Path, **settings: Any) -> None:
        from_mcap(FromMcapConfig(recording=list(paths), out=tmp_path / "set", **settings))

    with pytest.raises(ConfigError, match="recording= is missing"):
        convert()
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        convert(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no .mcap file"):
        convert(tmp_path)
    (tmp_path / "photo.mcap").write_bytes(b"JFIF, certainly no recording")
    with pytest.raises(DataError, match="photo.mcap: not an MCAP file"):
        convert(tmp_path / "photo.mcap")
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="set: already exists"):
        convert(tmp_path / "photo.mcap")
    wrong: list[dict[str, Any]] = [{"control_hz": 0}, {"image_size": 3}, {"max_gap_s": 0.0}]
    for settings in wrong:
        with pytest.raises(EmuRobotError, match=next(iter(settings))):
            FromMcapConfig(**settings)


def test_an_unknown_contract(tmp_path: Path):
    path = mcap_of(write_recording(tmp_path / "a", seconds=0.2))
    data = path.read_bytes()
    for old, new, said in (
        (b"emu_robot recording 1", b"emu_robot recording 9", "unknown contract, format 'emu_robot recording 9'; known"),
        (b'"subgoal": ', b'"subgirl": ', "its contract names no topic for subgoal"),
        (b'"weights": ', b'"reights": ', "its contract lacks or adds: reights, weights"),
        (b"kind: ", b"", ""),
    ):
        path.write_bytes(data.replace(old, new, 1))
        if said:
            with pytest.raises(EmuRobotError, match=said):
                read_recorded(path)


def test_recordings_of_two_robots_do_not_mix(tmp_path: Path):
    folders = [write_recording(tmp_path / robot, robot=robot, seconds=0.5) for robot in ("panda_sim", "so101")]
    with pytest.raises(DataError, match="another robot, so101, than panda_sim of .*; convert them"):
        from_mcap(FromMcapConfig(recording=folders, out=tmp_path / "set"))


def test_which_files_are_meant(tmp_path: Path):
    folder = write_recording(tmp_path / "all/a", seconds=0.2)
    shutil.copytree(folder, tmp_path / "all/b")
    found = find_recordings([tmp_path / "all", mcap_of(folder)])
    assert [path.parent.name for path in found] == ["a", "b"]
    shutil.copy(mcap_of(folder), folder / "a_1.mcap")
    with pytest.raises(DataError, match="one recording in several files"):
        find_recordings([tmp_path / "all"])


def test_the_robots_file_is_in_the_recording(tmp_path: Path):
    contract = read(write_recording(tmp_path / "a", robot="xarm7", seconds=0.5)).contract
    assert contract is not None and contract.robot == find_deployment("xarm7").read_text()
    assert AHEAD == 0.02
