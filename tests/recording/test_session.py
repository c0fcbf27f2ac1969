"""A recorded session is a LeRobotDataset after every episode, with its labels, also after a kill."""

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import session_frames
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from session_frames import ROBOT, TASK, frame, observation

from emu_robot.data import session_folder
from emu_robot.data.labels import read_labels
from emu_robot.data.lerobot_files import LeRobotFiles
from emu_robot.data.merge_sets import merge_sets
from emu_robot.data.prepare import PrepareConfig, prepare
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.data.session_episode import subtasks_of
from emu_robot.data.session_folder import SessionFolder, episode_records
from emu_robot.data.session_writer import SessionWriter
from emu_robot.errors import DataError, InvalidValueError, ShapeError, SystemSetupError
from emu_robot.recording.messages import Committed, Discard, End, Failed, Flag, Mark, Outcome, Setup, Start
from emu_robot.recording.session import SessionRecorder

START = Start(TASK, "2026-01-01T00:00:00+00:00")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes and a discarded one, then a third in a second session at the same place."""
    root = tmp_path_factory.mktemp("session") / "drawer"
    settings = {"front": {"exposure": 0.01}}
    recorder = SessionRecorder(root, ROBOT, operator="Ada", camera_settings=settings)
    recorder.start(TASK)
    for t in range(14):
        if t == 1:
            recorder.mark("grasp the cube")
        if t == 8:
            recorder.mark("place it in the drawer")
        if t == 9:
            recorder.flag("light changed")
        recorder.add(frame(t, intervention=t in (5, 6), is_overrun=t == 3))
    recorder.end(Outcome.success)
    recorder.start(TASK)
    recorder.mark("never seen")
    recorder.add(frame(0))
    recorder.discard()
    recorder.start("open the drawer")
    for t in range(10):
        recorder.add(frame(t))
    recorder.end(Outcome.failure, "dropped")
    recorder.wait()
    assert (recorder.committed, recorder.pending) == (2, 0)
    assert len(LeRobotFiles(root).episodes) == 2, "a set before the session is closed"
    recorder.close()
    later = Writer(root, "Grace")
    orders = [Mark("grasp the cube"), *map(frame, range(4)), Mark("push the drawer shut"), *map(frame, range(4, 9))]
    for order in (START, *orders, End(Outcome.success, "")):
        later.writer.do(order)
    assert later.news().episodes == 3
    later.writer.close()
    assert [path.name for path in root.parent.iterdir()] == ["drawer"], "nothing else remains"
    return root


def columns(root: Path, index: int) -> dict[str, np.ndarray]:
    files = LeRobotFiles(root)
    rows = files.rows(files.episodes[index])
    return {name: np.array(rows.column(name).to_pylist()) for name in rows.column_names if "language" not in name}


def test_lerobot_loads_every_frame_with_its_picture(recorded: Path) -> None:
    dataset: Any = LeRobotDataset("local/drawer", root=recorded)
    assert (dataset.num_episodes, dataset.num_frames) == (3, 33)
    first = dataset[24]
    assert first["task"] == TASK and float(first["observation.state"][0]) == 0
    for index, t in ((3, 3), (14 + 9, 9), (24 + 8, 8)):
        shown = (dataset[index]["observation.images.front"].permute(1, 2, 0).numpy() * 255).round()
        assert np.abs(shown - observation(t).images["front"]).mean() < 2, index
    assert dataset.meta.stats["action"]["count"] == 33


def test_stamps_interventions_and_overruns_are_kept_as_they_were(recorded: Path) -> None:
    found = columns(recorded, 0)
    assert found["capture_time"].tolist() == [frame(t).stamp_s for t in range(14)]
    assert np.flatnonzero(found["intervention"]).tolist() == [5, 6]
    assert np.flatnonzero(found["overrun"]).tolist() == [3]
    assert np.flatnonzero(found["next.success"]).tolist() == [13]
    assert not columns(recorded, 1)["next.success"].any()


def test_the_record_tells_how_episodes_ended(recorded: Path) -> None:
    first, second, third = episode_records(recorded)
    assert (first["outcome"], first["operator"], first["overruns"], first["interventions"]) == ("success", "Ada", 1, 2)
    assert first["flags"] == [{"frame": 9, "text": "light changed"}]
    assert first["cameras"] == {"front": {"exposure": 0.01}} and first["software"]["version"]
    assert (second["outcome"], second["cause"], second["subtasks"]) == ("failure", "dropped", [])
    assert (third["episode_index"], third["operator"], third["robot"]) == (2, "Grace", "small_panda")


def test_marks_become_the_subtasks_that_a_planner_learns(recorded: Path, tmp_path: Path) -> None:
    prepare(PrepareConfig(dataset=str(recorded), out=tmp_path / "buffer", image_size=32, workers=0))
    buffer = ReplayBuffer.open(tmp_path / "buffer")
    first, second, third = (buffer.episode(i) for i in range(3))
    assert first.subtasks == ("grasp the cube", "place it in the drawer")
    assert (first.starts.tolist(), first.keyframes.tolist(), first.success) == ([0, 8], [7, 13], True)
    assert third.subtasks == ("grasp the cube", "push the drawer shut") and third.keyframes.tolist() == [3, 8]
    assert not second.success and "never seen" not in second.subtasks, "found in motion, as nothing was marked"


def test_merged_sessions_keep_the_words_of_their_subtasks(recorded: Path, tmp_path: Path) -> None:
    mine = Writer(tmp_path / "other")
    mine.record()
    mine.writer.close()
    out = merge_sets([tmp_path / "other", recorded], tmp_path / "both")
    files = LeRobotFiles(out)
    labels = [read_labels(files, episode, files.rows(episode)) for episode in files.episodes]
    assert [one and one.subtasks for one in labels] == [
        ("a",), ("grasp the cube", "place it in the drawer"), None, ("grasp the cube", "push the drawer shut")
    ]  # fmt: skip
    assert [(one["episode_index"], one["operator"]) for one in episode_records(out)] == [
        (0, "test"), (1, "Ada"), (2, "Ada"), (3, "Grace")
    ]  # fmt: skip
    assert check(out, 4) == 4


def test_marks_at_odd_moments() -> None:
    assert subtasks_of([], 5) == ([], [0])
    assert subtasks_of([(2, "a"), (3, "b"), (3, "c"), (5, "d")], 5) == (["a", "c"], [0, 3])
    assert subtasks_of([(0, "a"), (2, "a"), (3, "b")], 5) == (["a", "b"], [0, 3])


def test_another_robot_or_dataset_is_refused_at_the_door(recorded: Path) -> None:
    for other, said in (
        (replace(ROBOT, fps=30), "fps is 20, now 30"),
        (replace(ROBOT, robot_type="so101"), "robot_type is small_panda, now so101"),
        (replace(ROBOT, cameras={"front": (48, 64)}), None),
        (replace(ROBOT, cameras={**ROBOT.cameras, "wrist": (48, 64)}), "observation.images.wrist"),
    ):
        if said:
            with pytest.raises(DataError, match=said):
                SessionFolder(Setup(root=recorded, robot=other, operator=""))
    assert len(LeRobotFiles(recorded).episodes) == 3


def test_a_dead_writer_and_a_full_queue_are_told(tmp_path: Path) -> None:
    recorder = SessionRecorder(tmp_path / "s", ROBOT, queue_mb=0)
    assert recorder.preflight(observation(0)) == ["the process that writes still loads LeRobot"]
    with pytest.raises(InvalidValueError, match="start one first"):
        recorder.add(frame(0))
    recorder.start(TASK)
    with pytest.raises(ShapeError, match="state"):
        recorder.add(replace(frame(0), observation=replace(observation(0), state=np.zeros(3, np.float32))))
    with pytest.raises(SystemSetupError, match="does not keep up with 20 frames per second.*dropped"):
        recorder.add(frame(0))
    assert not recorder.is_recording
    os.kill(recorder.writer_id, signal.SIGKILL)
    with pytest.raises(SystemSetupError, match="process that writes has ended"):
        for _ in range(100):
            recorder.start(TASK)
            recorder.discard()
            time.sleep(0.1)
    assert "the process that writes has ended" in recorder.preflight(observation(0))
    recorder.close()


def test_preflight_names_what_is_wrong(tmp_path: Path) -> None:
    from emu_robot.recording.preflight import problems_of

    assert problems_of(observation(0), ROBOT, {}, 60.0) == []
    black = replace(observation(0), images={"front": np.zeros((48, 64, 3), np.uint8)})
    found = problems_of(black, ROBOT, {"front": 1.5}, 0.5)
    for said in ("front shows nothing", "front is 1.50 s old", "wrist gives no picture", "0.5 minutes"):
        assert any(said in one for one in found), (said, found)


class Writer:
    """The writer in this process."""

    def __init__(self, root: Path, operator: str = "test", weights: str = "") -> None:
        self._news, theirs = Pipe()
        self.writer = SessionWriter(theirs, Setup(root=root, robot=ROBOT, operator=operator, weights=weights))
        for _ in range(2):
            self.news()

    def news(self) -> Any:
        return self._news.recv()

    def record(self, n_frames: int = 6) -> Any:
        for order in (START, Mark("a"), Flag("b"), *map(frame, range(n_frames)), End(Outcome.success, "")):
            self.writer.do(order)
        return self.news()


def check(root: Path, at_least: int) -> int:
    """Every episode loads with LeRobot and passes our reader; returns how many there are."""
    if not root.exists():
        assert at_least == 0
        return 0
    files = LeRobotFiles(root)
    n_frames = sum(episode.length for episode in files.episodes)
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"]) == (len(files.episodes), n_frames)
    for episode in files.episodes:
        files.check(episode, files.cameras)
        rows = files.rows(episode)
        for camera in files.cameras:
            assert len(list(files.images(episode, rows, camera, range(episode.length)))) == episode.length
    dataset: Any = LeRobotDataset("local/set", root=root)
    assert dataset.num_frames == n_frames == len(dataset.hf_dataset) and dataset[n_frames - 1]["task"] == TASK
    assert len(files.episodes) >= at_least
    return len(files.episodes)


def test_a_full_disk_costs_only_the_running_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "s"
    mine = Writer(root)
    assert isinstance(mine.record(), Committed)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("sync_folder", "replace_text", "_link_tree"):
        with monkeypatch.context() as patched:
            patched.setattr(session_folder, name, full)
            failed = mine.record()
        assert isinstance(failed, Failed) and failed.kind is SystemSetupError
        if name == "_link_tree":  # told at the start and at the end
            assert isinstance(mine.news(), Failed)
        assert "disk is full" in failed.message and "the 1 before are intact" in failed.message
        assert check(root, 1) == 1
    assert mine.record() == Committed(2, mine.writer._folder.bytes_per_frame)
    mine.writer.do(START)
    mine.writer.do(frame(0))
    mine.writer.do(Discard())
    mine.writer.close()
    assert check(root, 2) == 2


def test_a_writer_killed_at_any_moment_leaves_a_whole_set(tmp_path: Path) -> None:
    root, rng = tmp_path / "s", random.Random(0)
    for _ in range(3):
        held = len(LeRobotFiles(root).episodes) if root.exists() else 0
        receiver, sender = os.pipe()
        child = os.fork()  # has LeRobot loaded already
        if not child:
            try:
                mine = Writer(root)
                while True:
                    news = mine.record(rng.randrange(4, 12))
                    os.write(sender, bytes([news.episodes if isinstance(news, Committed) else 255]))
            finally:
                os._exit(1)
        os.close(sender)
        told = [os.read(receiver, 1)]  # the first commit of this process
        time.sleep(rng.uniform(0.0, 1.5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(receiver, "rb") as rest:
            told += [bytes([one]) for one in rest.read()]
        assert told[0] and told[-1] != b"\xff"
        assert check(root, told[-1][0]) in (told[-1][0], told[-1][0] + 1) and told[-1][0] > held


@pytest.mark.slow
def test_kill_9_at_20_random_moments_loses_no_committed_episode(tmp_path: Path) -> None:
    root, rng = tmp_path / "s", random.Random(1)
    committed = 0
    for trial in range(20):
        with recording(root) as process:
            assert process.stdout is not None
            writer, first = (int(process.stdout.readline().split()[1]) for _ in range(2))
            assert first >= committed, "what one process committed, the next one finds"
            said = process.stdout.readline() if trial % 3 else ""  # a commit, or else LeRobot may still be loading
            time.sleep(rng.uniform(0.0, 4.0))
            process.kill()
            if trial % 2:
                os.kill(writer, signal.SIGKILL)
            process.wait()
            told = re.findall(r"committed (\d+)\n", said + process.stdout.read())
            committed = max(int(told[-1]) if told else first, committed)
            wait_for_end(writer)
        committed = check(root, committed)
    assert committed >= 10


@contextmanager
def recording(root: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that records until it is killed."""
    command = [sys.executable, session_frames.__file__, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_end(pid: int) -> None:
    for _ in range(600):
        if not is_running(pid):
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pid} outlives its session")


def is_running(pid: int) -> bool:
    """A process that has ended may stay in the table: not every first process of a container buries orphans."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_failures_of_a_policy_that_were_not_corrected_are_left_out_and_said(tmp_path: Path) -> None:
    root = tmp_path / "dagger"
    writer = Writer(root, weights="mini").writer
    for corrects, outcome in ((True, Outcome.failure), (False, Outcome.failure), (False, Outcome.success)):
        orders = [Mark("grasp the cube"), *(frame(t, intervention=corrects and t > 4) for t in range(9))]
        for order in (START, *orders[:6], Mark("place it"), *orders[6:], End(outcome, "")):
            writer.do(order)
    writer.close()
    first, *_ = episode_records(root)
    assert first["weights"] == "mini" and len(first["weights_sha256"]) == 64 and first["interventions"] == 4
    out = prepare(PrepareConfig(dataset=str(root), out=tmp_path / "buffer", image_size=32, workers=0))
    buffer = ReplayBuffer.open(out)
    assert [meta["seed"] for meta in buffer.metadata] == [0, 2]
    assert buffer.episode(0).interventions == ((5, 9),) and buffer.episode(1).interventions == ()
    notes = json.loads((out / "prepared.json").read_text())["notes"]
    assert "left out: episode 1, a failure of the policy without a correction" in notes
