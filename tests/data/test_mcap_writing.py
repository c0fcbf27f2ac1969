"""The writing thread: what it drops, what a failing disk leaves, how soon a message is safe."""

import errno
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recordings import EPOCH_NS
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag2.storage_mcap import McapWriter

from emu_robot.data import mcap_writing
from emu_robot.data.mcap_messages import message, types
from emu_robot.data.mcap_reading import McapFile
from emu_robot.data.mcap_writing import McapRecording, Topic
from emu_robot.data.recording_contract import CONTRACT_KEY, CONTRACT_TOPIC, Contract, weights_sha256
from emu_robot.errors import DataError
from emu_robot.robots.deployment import deployments, find_deployment

STRING = "std_msgs/msg/String"


def start(path: Path, queue_bytes: int = 10_000) -> McapRecording:
    contract = Contract(task="wave", robot=find_deployment("panda_sim").read_text(), topics={})
    recording = McapRecording(path, contract, time_ns=EPOCH_NS, queue_bytes=queue_bytes)
    definition, _ = types().generate_msgdef(STRING, ros_version=2)
    recording.add(Topic("/said", STRING, definition, types().hash_rihs01(STRING), is_latched=True))
    return recording


def say(recording: McapRecording, words: str) -> None:
    data = types().serialize_cdr(message("std_msgs/String", data=words), STRING)
    recording.put("/said", EPOCH_NS + 1, bytes(data))


def said(path: Path) -> list[str]:
    """What is in the file by now; whole or not."""
    file = McapFile(path / f"{path.name}.mcap")
    return [file.decode(one).data for one in file.messages() if one.topic == "/said"]


def wait_for(condition, seconds: float = 20.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began


def test_a_message_is_in_the_file_soon(tmp_path: Path):
    recording = start(tmp_path / "a")
    say(recording, "hello")
    waited = wait_for(lambda: said(recording.path) == ["hello"])
    assert waited < 2 * mcap_writing.CHUNK_S + 1.0  # busy machines are late
    recording.close()
    assert not recording.problem and recording.received == {"/said": 1}
    with AnyReader([recording.path]) as reader:
        connections = {one.topic: one for one in reader.connections}
        assert set(connections) == {CONTRACT_TOPIC, "/said"}
        (qos,) = connections["/said"].ext.offered_qos_profiles  # pyright: ignore
        assert (qos.durability, qos.reliability) == (QosDurability.TRANSIENT_LOCAL, QosReliability.RELIABLE)
    say(recording, "too late")
    assert recording.dropped == {"/said": 1}


@pytest.mark.parametrize("robot", deployments())
def test_the_contract_is_whole_in_the_metadata_wherever_its_text_is_folded(robot: str, tmp_path: Path):
    text = find_deployment(robot).read_text()
    for n in range(80):  # characters of a line
        contract = Contract(task="x" * n, robot=text, topics={"subgoal": "/sub goal"})
        recording = McapRecording(tmp_path / str(n), contract, time_ns=EPOCH_NS, queue_bytes=10_000)
        recording.close()
        with AnyReader([recording.path]) as reader:
            custom = reader.readers[0].storage.metadata.custom  # pyright: ignore
            assert custom is not None
            assert Contract.from_json(custom[CONTRACT_KEY], "it") == contract


def test_what_finds_no_room_is_counted(tmp_path: Path):
    recording = start(tmp_path / "a", queue_bytes=1000)
    say(recording, "x" * 2000)
    say(recording, "short")
    recording.close()
    assert recording.dropped == {"/said": 1} and said(recording.path) == ["short"]


def test_a_full_disk_leaves_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recording = start(tmp_path / "a")
    say(recording, "kept")
    wait_for(lambda: said(recording.path) == ["kept"])

    def full(self: McapWriter) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(McapWriter, "close_chunk", full)
    say(recording, "lost")
    wait_for(lambda: recording.problem)
    say(recording, "also lost")
    recording.close()
    assert "No space left on device" in recording.problem and recording.dropped == {"/said": 1}
    assert said(recording.path) == ["kept"] and not (recording.path / "metadata.yaml").exists()


def test_a_definition_that_is_none_is_told_and_the_file_is_closed(tmp_path: Path):
    recording = start(tmp_path / "a")
    say(recording, "kept")
    recording.add(Topic("/said", STRING, "string data", "RIHS01_0", is_latched=True))
    recording.close()
    assert "Connection can only be added once" in recording.problem
    assert said(recording.path) == ["kept"] and (recording.path / "metadata.yaml").exists()


def test_the_contract_says_which_weights():
    assert len(weights_sha256("mini")) == 64 and weights_sha256("") == weights_sha256("nowhere") == ""
    with pytest.raises(DataError, match="it: its contract is not JSON"):
        Contract.from_json("{", "it")


def test_the_recorders_process_stays_light():
    code = "import sys, emu_robot.data.mcap_writing, emu_robot.shared.provenance; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "zarr", "lerobot", "mujoco", "pyarrow"} & set(loaded)
