"""The recorder as a real node: what it writes is read back by third parties' tools, after a kill, too."""

import io
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Time
from conftest import running, wait_until
from emu_robot_interfaces.action import RecordEpisode
from emu_robot_interfaces.msg import ActionChunk, EpisodeState, SafetyState, Subgoal
from mcap.exceptions import McapError
from mcap.reader import NonSeekingReader, make_reader
from mcap_ros2.decoder import DecoderFactory
from rclpy.action.client import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from rosbags.highlevel import AnyReader
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from test_sensors import jpeg
from trajectory_msgs.msg import JointTrajectory

from emu_robot.data.from_mcap import read_pictures
from emu_robot.data.mcap_recording import read_recorded
from emu_robot.data.recorded_episode import resample, succeeded
from emu_robot.data.recording_contract import CONTRACT_KEY, CONTRACT_TOPIC, Contract
from emu_robot.observation.camera_messages import is_compressed
from emu_robot.observation.image_fit import ImageFit
from emu_robot.robots.deployment import ROBOTS, read_deployment
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import from_actions, from_image, trajectory
from emu_robot_ros.recording_review import write_video

NODE = "emu_robot_ros.recorder_node"
ROBOT = read_deployment("panda_sim")
TASK = "put the red cube into the drawer"
IMAGE_HZ, STATE_HZ = 20.0, 100.0


class Robot:
    """A robot that moves without end, and a client of the recorder, in one node spun in a thread.

    Cameras show the number of their picture; joint 1 is at the time since the start; commands are 0.02 ahead of it.
    """

    def __init__(self, cameras: Mapping[str, str] = ROBOT.cameras, namespace: str = "") -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = node = Node("robot", context=self.context, namespace=namespace)
        self.sent: Counter[str] = Counter()
        self.feedback: list[RecordEpisode.Feedback] = []
        self._start = time.time()
        self._cameras = {
            topic: node.create_publisher(CompressedImage if is_compressed(topic) else Image, topic, qos.CAMERA)
            for topic in cameras.values()
        }
        self._joints = node.create_publisher(JointState, ROBOT.joint_states, qos.JOINT_STATES_OUT)
        self._commands = node.create_publisher(JointTrajectory, ROBOT.command_topic, qos.COMMANDS)
        self._gripper = node.create_publisher(JointTrajectory, ROBOT.topics["gripper.topic"], qos.COMMANDS)
        self._chunks = node.create_publisher(ActionChunk, topics.ACTION_CHUNK, qos.CHUNKS)
        self._subgoals = node.create_publisher(Subgoal, topics.SUBGOAL, qos.LATCHED)
        self._safety = node.create_publisher(SafetyState, topics.SAFETY_STATE, qos.LATCHED)
        self._episode = node.create_publisher(EpisodeState, topics.EPISODE_STATE, qos.STATUS)
        self._extra = node.create_publisher(String, "/extra", 10)
        self._safety.publish(SafetyState(state="tracking"))
        self.subgoal("open the drawer", 1)
        for hz, callback in ((IMAGE_HZ, self._show), (STATE_HZ, self._move)):
            node.create_timer(1.0 / hz, callback)
        self.client = ActionClient(node, RecordEpisode, topics.RECORD_EPISODE)
        self.parameters = AsyncParameterClient(node, "recorder")
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def subgoal(self, words: str, sequence: int) -> None:
        stamp = self.node.get_clock().now().to_msg()
        image = from_image(np.full((8, 8, 3), sequence, np.uint8), stamp)
        message = Subgoal(session=1, sequence=sequence, instruction=TASK, subtask=words, image=image)
        self._subgoals.publish(message)

    def record(self, task: str = TASK, time_limit: float = 0.0) -> Any:
        """Send a goal; the handle of the goal, accepted or not."""
        assert self.client.wait_for_server(20.0), "no recorder"
        goal = RecordEpisode.Goal(task=task, time_limit=time_limit)
        return self.asked(
            self.client.send_goal_async, goal, feedback_callback=lambda m: self.feedback.append(m.feedback)
        )

    def result(self, handle: Any) -> Any:
        """(status, result) once there is one."""
        answer = self.asked(handle.get_result_async)
        return answer.status, answer.result

    def cancel(self, handle: Any) -> Any:
        self.asked(handle.cancel_goal_async)
        return self.result(handle)

    def set(self, name: str, value: float) -> None:
        assert self.parameters.wait_for_services(20.0)
        answer = self.done(self.parameters.set_parameters([Parameter(name, value=value)]))
        assert answer.results[0].successful, answer.results[0].reason

    def asked(self, request: Any, *arguments: Any, **more: Any) -> Any:
        """What comes of an action's request, which the executor's thread makes as in `GraphClient.sent`."""
        return self.done(self.done(self._executor.create_task(request, *arguments, **more)))

    def done(self, future: Any) -> Any:
        wait_until(future.done, "an answer")
        return future.result()

    def wait_for_feedback(self, n: int) -> None:
        wait_until(lambda: len(self.feedback) >= n, "feedback")

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(5)
        self.client.destroy()  # its node does not, and would stay in the graph for it
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def _show(self) -> None:
        for topic, publisher in self._cameras.items():
            picture, stamp = (
                np.full((48, 64, 3), self.sent[topic] % 256, np.uint8),
                self.node.get_clock().now().to_msg(),
            )
            publisher.publish(jpeg(picture, stamp) if is_compressed(topic) else from_image(picture, stamp))
            self.sent[topic] += 1
        self._episode.publish(EpisodeState(seed=3, instruction=TASK, success=True))
        self._extra.publish(String(data="extra"))

    def _move(self) -> None:
        now = time.time() - self._start
        position = np.array([now, 0.5, 0.0, -2.0, 0.0, 2.0, 0.0])
        message = JointState(name=list(ROBOT.dimension_names), position=[*position.tolist(), 0.25])
        message.header.stamp = self.node.get_clock().now().to_msg()
        self._joints.publish(message)
        position[0] += 0.02
        self._commands.publish(trajectory(ROBOT.joints.names, position, np.zeros(7), 0.02))
        self._gripper.publish(trajectory(ROBOT.dimension_names[-1:], np.array([0.75]), np.zeros(1), 0.02))
        actions = np.repeat(np.array([[*position, 0.75]]), 3, axis=0)
        chunk = ActionChunk(session=7, sequence=self.sent["chunk"], dt=0.05, names=list(ROBOT.dimension_names))
        chunk.actions, chunk.source = from_actions(actions), "policy"
        self._chunks.publish(chunk)
        self.sent["chunk"] += 1


@pytest.fixture
def robot(request: pytest.FixtureRequest) -> Iterator[Robot]:
    found = Robot(namespace=getattr(request, "param", ""))
    yield found
    found.close()


@contextmanager
def recorder(folder: Path, *settings: str, namespace: str = "/") -> Iterator[subprocess.Popen[str]]:
    arguments = [word for setting in (f"folder:={folder}", *settings) for word in ("-p", setting)]
    with running(NODE, "-r", f"__ns:={namespace}", *arguments) as process:
        yield process


def mcap_of(path: str | Path) -> Path:
    return next(Path(path).glob("*.mcap"))


def by_topic(path: Path) -> dict[str, list[Any]]:
    """All messages, decoded by rosbags."""
    found: dict[str, list[Any]] = {}
    with AnyReader([path]) as reader:
        for connection, _, data in reader.messages():
            found.setdefault(connection.topic, []).append(reader.deserialize(data, connection.msgtype))
    return found


def test_what_was_sent_is_what_others_read(robot: Robot, tmp_path: Path):
    with recorder(tmp_path, "weights:=mini", "topics:=/extra"):
        handle = robot.record()
        robot.wait_for_feedback(2)
        robot.subgoal("", 2)
        assert not robot.record("another").accepted
        time.sleep(0.3)
        status, result = robot.cancel(handle)
    assert status == GoalStatus.STATUS_CANCELED and result.success, result.message
    assert "0 dropped" in result.message and "nothing came on /policy_status /planner_status" in result.message
    assert robot.feedback[-1].messages > robot.feedback[0].messages > 100 and robot.feedback[-1].free_space > 0
    path = Path(result.path)
    assert path.parent == tmp_path and path.name.endswith("put_the_red_cube_into_the_drawer")

    found = by_topic(path)
    assert sum(map(len, found.values())) == result.messages + 1  # the contract
    for camera in (f"/{topic}" for topic in ROBOT.cameras.values()):
        shown = [int(message.data[0]) for message in found[camera]]
        assert len(shown) > 20
        check_lost(camera, shown, result.message)
    chunks = [int(message.sequence) for message in found["/action_chunk"]]
    check_lost("/action_chunk", chunks, result.message)
    assert len(found[f"/{ROBOT.joint_states}"]) > 100
    assert [(m.subtask, m.sequence) for m in found["/subgoal"]] == [("open the drawer", 1), ("", 2)]
    assert found["/safety_state"][0].state == "tracking" and found["/extra"][0].data == "extra"
    check_contract(path, Contract.from_json(found[CONTRACT_TOPIC][0].data, "it"))
    with mcap_of(path).open("rb") as file:
        messages = make_reader(file, decoder_factories=[DecoderFactory()]).iter_decoded_messages()
        decoded = [(channel.topic, message) for _, channel, _, message in messages]
    assert len(decoded) == result.messages + 1
    last = [message for topic, message in decoded if topic == "/action_chunk"][-1]
    assert (last.session, last.sequence, list(last.names)) == (7, chunks[-1], list(ROBOT.dimension_names))
    assert list(last.actions) == list(found["/action_chunk"][-1].actions)


def check_lost(topic: str, numbers: list[int], said: str) -> None:
    """Nothing is missing, or the recorder told; a busy machine loses what the middleware has no room for."""
    missing = int(np.diff(numbers).sum()) - len(numbers) + 1
    assert missing == 0 or f"on {topic} lost on their way here" in said


def check_contract(path: Path, contract: Contract) -> None:
    assert contract.task == TASK and contract.deployment("it") == ROBOT
    assert contract.weights == "mini" and len(contract.weights_sha256) == 64
    assert contract.software["emu_robot"] and contract.software["emu_robot_interfaces"]
    assert contract.topics["camera.front"] == "/front/image_raw" and contract.topics["subgoal"] == "/subgoal"
    with AnyReader([path]) as reader:
        custom: Any = reader.readers[0].storage.metadata.custom  # pyright: ignore
        assert Contract.from_json(custom[CONTRACT_KEY], "it") == contract
    with mcap_of(path).open("rb") as file:
        record = next(record for record in make_reader(file).iter_metadata() if record.name == "rosbag2")
    assert CONTRACT_KEY in record.metadata["serialized_metadata"]


@pytest.mark.parametrize("robot", ["", "/left"], indirect=True)
def test_it_converts_to_what_the_robot_did(robot: Robot, tmp_path: Path):
    space = robot.node.get_namespace()
    with recorder(tmp_path, namespace=space):
        status, result = robot.result(robot.record(time_limit=1.5))
    assert status == GoalStatus.STATUS_SUCCEEDED and result.duration == pytest.approx(1.5, abs=0.3)
    assert "time limit reached" in result.message and ("_left_put_" in result.path) == (space == "/left")
    recorded = read_recorded(mcap_of(result.path))
    assert recorded.contract and recorded.contract.topics["joint_states"] == f"{space.rstrip('/')}/joint_states"
    assert recorded.contract.topics["diagnostics"] == "/diagnostics"
    numbers = resample(recorded, control_hz=20, max_gap_s=0.3)
    assert recorded.is_whole and 15 < len(numbers.state) <= 31
    moved = np.diff(numbers.state[:, 0])
    assert moved == pytest.approx(0.05, abs=0.02) and numbers.state[:, 7] == pytest.approx(0.25)
    # a command for 20 ms later is 20 ms ahead: at the end of a tick it is where the robot is then
    assert numbers.action[:-1, 0] == pytest.approx(numbers.state[1:, 0], abs=0.02)
    assert numbers.action[:, 7] == pytest.approx(0.75)
    assert succeeded(recorded) and recorded.intended[0].words == "open the drawer"


def test_a_compressed_camera_is_recorded_as_it_is_and_converts(tmp_path: Path):
    """Each picture shows its number, in grey."""
    cameras, text = {**ROBOT.cameras, "wrist": "wrist/image_raw/compressed"}, (ROBOTS / "panda_sim.yaml").read_text()
    yaml = tmp_path / "packed.yaml"
    yaml.write_text(text.replace("wrist/image_raw", "wrist/image_raw/compressed"))
    robot = Robot(cameras)
    try:
        with recorder(tmp_path / "out", f"robot:={yaml}"):
            _, result = robot.result(robot.record(time_limit=1.5))
    finally:
        robot.close()
    assert result.success, result.message
    packed = by_topic(Path(result.path))[f"/{cameras['wrist']}"]
    assert len(packed) > 15 and all(bytes(one.data[:3]) == b"\xff\xd8\xff" for one in packed)
    assert packed[0].format == "rgb8; jpeg compressed bgr8" and packed[0].header.stamp.sec > 0
    recorded = read_recorded(mcap_of(result.path))
    numbers = resample(recorded, control_hz=20, max_gap_s=0.3)
    shown = read_pictures(recorded, numbers, 32, ImageFit.stretch)
    front, wrist = (shown[name].mean(axis=(1, 2, 3)) for name in ("front", "wrist"))
    assert np.abs(front - wrist).max() < 2.5 and np.ptp(wrist) > 15
    video = tmp_path / "out.mp4"
    assert write_video(mcap_of(result.path), video, "compressed") > 10 and video.stat().st_size > 1000


def test_a_full_disk_ends_it_in_time(robot: Robot, tmp_path: Path):
    with recorder(tmp_path, "min_free_gb:=99999.0"):
        status, result = robot.result(robot.record())
        assert status == GoalStatus.STATUS_ABORTED and not result.success and not result.path
        assert "min_free_gb is 99999.0" in result.message and not list(tmp_path.iterdir())
        robot.set("min_free_gb", 0.0)
        handle = robot.record()
        robot.wait_for_feedback(1)
        robot.set("min_free_gb", 99_999.0)
        status, result = robot.result(handle)
    assert status == GoalStatus.STATUS_ABORTED and not result.success and "min_free_gb" in result.message
    assert sum(map(len, by_topic(Path(result.path)).values())) == result.messages + 1


def test_a_wrong_time_limit_is_refused_and_it_can_record_again(robot: Robot, tmp_path: Path):
    with recorder(tmp_path):
        status, result = robot.result(robot.record(time_limit=-1.0))
        assert status == GoalStatus.STATUS_ABORTED and "time_limit is -1.0 s" in result.message
        for _ in range(2):
            assert robot.result(robot.record(time_limit=0.2))[1].success


def test_settings_that_make_no_sense_are_named(tmp_path: Path):
    for setting, said in (
        ("robot:=nobody", "unknown robot 'nobody'; known: "),
        ("topics:=/a, /b?", "Invalid topic name"),
    ):
        with recorder(tmp_path, setting) as process:
            output, _ = process.communicate(timeout=30)
        assert process.returncode != 0 and said in output


def test_what_finds_no_room_is_counted(robot: Robot, tmp_path: Path):
    with recorder(tmp_path, "queue_mb:=0.005"):  # a picture has 9 kB
        _, result = robot.result(robot.record(time_limit=1.0))
    found = by_topic(Path(result.path))
    assert "/front/image_raw" not in found and len(found["/joint_states"]) > 50
    assert "of them on /front/image_raw" in result.message and " 0 dropped" not in result.message


def test_with_a_simulated_clock_its_time_counts(robot: Robot, tmp_path: Path):
    clock, began = robot.node.create_publisher(Clock, "/clock", 10), time.monotonic()

    def tick() -> None:
        seconds, rest = divmod(100.0 + (time.monotonic() - began) / 4, 1.0)
        clock.publish(Clock(clock=Time(sec=int(seconds), nanosec=int(1e9 * rest))))

    robot.node.create_timer(0.02, tick)
    with recorder(tmp_path, "use_sim_time:=true"):
        assert robot.client.wait_for_server(20.0)
        time.sleep(0.2)
        _, result = robot.result(robot.record(time_limit=1.0))
    with AnyReader([Path(result.path)]) as reader:
        times = [1e-9 * time_ns for connection, time_ns, _ in reader.messages() if connection.topic == "/joint_states"]
    assert 100 < times[0] < times[-1] < 120 and times[-1] - times[0] == pytest.approx(0.25, abs=0.1)
    contract = read_recorded(mcap_of(result.path)).contract
    assert contract is not None and contract.simulated_clock


def test_an_interrupted_recorder_closes_its_file(robot: Robot, tmp_path: Path):
    with recorder(tmp_path) as process:
        robot.record()
        robot.wait_for_feedback(1)
        process.send_signal(signal.SIGINT)
        process.wait(20)
    (path,) = tmp_path.iterdir()
    assert (path / "metadata.yaml").exists() and len(by_topic(path)["/joint_states"]) > 50


def test_a_killed_recorder_loses_the_last_second_at_most(robot: Robot, tmp_path: Path):
    with recorder(tmp_path) as process:
        robot.record()
        robot.wait_for_feedback(3)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        end = time.time()
    (path,) = tmp_path.iterdir()
    assert not (path / "metadata.yaml").exists()
    seen: list[tuple[str, int]] = []
    with pytest.raises(McapError), mcap_of(path).open("rb") as file:
        for _, channel, message in NonSeekingReader(io.BufferedReader(file)).iter_messages(log_time_order=False):
            seen.append((channel.topic, message.log_time))
    assert seen[0][0] == CONTRACT_TOPIC and end - 1e-9 * seen[-1][1] < 1.3
    recorded = read_recorded(mcap_of(path))
    assert not recorded.is_whole and recorded.task == TASK
    assert len(resample(recorded, control_hz=20, max_gap_s=0.3).state) > 30
