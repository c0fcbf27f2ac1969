"""Real nodes for robots that do not ship: an arm without gripper, and one whose gripper tells of itself elsewhere."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from conftest import running, wait_until
from emu_robot_interfaces.action import RecordEpisode
from emu_robot_interfaces.msg import ActionChunk, SafetyState
from rclpy.action.client import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from robots import APART, HAND_APART, SIX, SIX_JOINTS, changed, write_robot
from sensor_msgs.msg import Image, JointState, Joy
from trajectory_msgs.msg import JointTrajectory

from emu_robot.data.mcap_recording import read_recorded
from emu_robot.data.recorded_episode import resample
from emu_robot.robots.deployment import ROBOTS, Deployment, read_deployment
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import from_image, trajectory
from emu_robot_ros.preflight import look

DEADMAN = 5
OPENING = 0.25


class Robot:
    """Drivers, gate and gamepad of a robot at rest, spun in a thread. hand: whether its gripper tells of itself."""

    def __init__(self, robot: Deployment) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = node = Node("drivers", context=self.context)
        self.chunks: list[ActionChunk] = []
        self.hand, self._ticks, self._robot = True, 0, robot
        states, commands = qos.JOINT_STATES_OUT, qos.COMMANDS
        self._joints = [node.create_publisher(JointState, topic, states) for topic in robot.joint_state_topics]
        self._cameras = [node.create_publisher(Image, topic, qos.CAMERA) for topic in robot.cameras.values()]
        self._arm = node.create_publisher(JointTrajectory, robot.command_topic, commands)
        gripper = [robot.gripper.topic] if robot.gripper else []
        self._fingers = [node.create_publisher(JointTrajectory, topic, commands) for topic in gripper]
        for topic in (robot.command_topic, *gripper):
            node.create_subscription(JointTrajectory, topic, lambda message: None, commands)
        self._pad = node.create_publisher(Joy, "joy", 10)
        self._gate = node.create_publisher(SafetyState, topics.SAFETY_STATE, qos.LATCHED)
        self._gate.publish(SafetyState(state="holding"))
        node.create_subscription(ActionChunk, topics.ACTION_CHUNK, self.chunks.append, qos.CHUNKS)
        self.recorder = ActionClient(node, RecordEpisode, topics.RECORD_EPISODE)
        node.create_timer(0.02, self._act)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _act(self) -> None:
        stamp, n = self.node.get_clock().now().to_msg(), self._robot.n_joints
        arm = JointState(name=list(self._robot.joints.names), position=[0.1] * n)
        messages = [arm]
        if self._robot.gripper is not None:
            joint, position = self._robot.gripper.joint, self._robot.gripper.position(OPENING)
            messages += [JointState(name=[joint], position=[position])] if self.hand else []
            for publisher in self._fingers:
                publisher.publish(trajectory((joint,), np.array([position]), np.zeros(1), 0.02))
        for publisher, message in zip(self._joints, messages, strict=False):
            message.header.stamp = stamp
            publisher.publish(message)
        for publisher in self._cameras:
            publisher.publish(from_image(np.arange(64 * 48 * 3, dtype=np.uint8).reshape(48, 64, 3), stamp))
        self._arm.publish(trajectory(self._robot.joints.names, np.full(n, 0.1), np.zeros(n), 0.02))
        self._ticks += 1
        pressed = self.chunks or self._ticks // 10 % 2  # again and again: it must have been released before
        self._pad.publish(Joy(axes=[1.0, *[0.0] * 5], buttons=[int(i == DEADMAN and bool(pressed)) for i in range(8)]))

    def asked(self, request: Any, *arguments: Any) -> Any:
        """What comes of an action's request, made in the executor's thread."""
        made = self._executor.create_task(request, *arguments)
        wait_until(made.done, "the request to be sent")
        answer = made.result()
        assert answer is not None
        wait_until(answer.done, "an answer")
        return answer.result()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(5)
        self.recorder.destroy()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def make() -> Iterator[Callable[[Deployment], Robot]]:
    made: list[Robot] = []

    def make_one(robot: Deployment) -> Robot:
        made.append(Robot(robot))
        return made[-1]

    yield make_one
    for robot in made:
        robot.close()


@pytest.mark.parametrize(("robot", "text"), [(SIX, SIX_JOINTS), (APART, HAND_APART)])
def test_an_arm_is_jogged_in_its_own_dimensions(
    make: Callable[[Deployment], Robot], tmp_path: Path, robot: Deployment, text: str
):
    there = make(robot)
    with running("emu_robot_ros.teleop_node", "-p", f"robot:={write_robot(tmp_path, text)}"):
        wait_until(lambda: len(there.chunks) > 5, "chunks")
    chunk = there.chunks[-1]
    assert tuple(chunk.names) == robot.dimension_names
    actions = np.array(chunk.actions).reshape(-1, len(chunk.names))
    assert actions[-1, 0] > 0.1 and actions[:, 1:6] == pytest.approx(0.1, abs=1e-3)
    assert actions[:, 6:] == pytest.approx(OPENING, abs=1e-3)


def test_without_its_gripper_s_own_joint_states_an_arm_is_not_jogged(
    make: Callable[[Deployment], Robot], tmp_path: Path
):
    there = make(APART)
    there.hand = False
    with running("emu_robot_ros.teleop_node", "-p", f"robot:={write_robot(tmp_path, HAND_APART)}"):
        wait_until(lambda: there.node.count_publishers(topics.DEADMAN) > 0, "teleoperation")
        with pytest.raises(pytest.fail.Exception, match="for chunks"):
            wait_until(lambda: there.chunks, "chunks", 3.0)
        there.hand = True
        wait_until(lambda: there.chunks, "chunks")


@pytest.mark.parametrize(("robot", "text"), [(SIX, SIX_JOINTS), (APART, HAND_APART)])
def test_what_the_recorder_writes_converts(
    make: Callable[[Deployment], Robot], tmp_path: Path, robot: Deployment, text: str
):
    there, path = make(robot), write_robot(tmp_path, text)
    with running("emu_robot_ros.recorder_node", "-p", f"robot:={path}", "-p", f"folder:={tmp_path / 'recordings'}"):
        assert there.recorder.wait_for_server(20.0), "no recorder"
        goal = RecordEpisode.Goal(task="stand still", time_limit=2.0)
        handle = there.asked(there.recorder.send_goal_async, goal)
        result = there.asked(handle.get_result_async).result
    assert result.success, result.message
    recorded = read_recorded(next(Path(result.path).glob("*.mcap")))
    assert recorded.robot == robot and set(recorded.joints) == set(robot.dimension_names)
    numbers = resample(recorded, control_hz=10, max_gap_s=1.0)
    expected = [*[0.1] * 6, *[OPENING] * (robot.gripper is not None)]
    np.testing.assert_allclose(numbers.state, np.tile(expected, (len(numbers.times), 1)), atol=1e-6)
    np.testing.assert_allclose(numbers.action, numbers.state, atol=1e-6)


def until(robot: Deployment, condition: Callable[[set[str], set[str]], bool], what: str) -> None:
    """Preflight's checks that are well, and its problems; on a busy machine things take their time to be found."""

    def looked() -> bool:
        checks = look(robot, [], listen_s=1.0, most_s=1.0)
        return condition({one.name for one in checks if not one.problem}, {one.problem or "" for one in checks})

    wait_until(looked, what)


@pytest.mark.parametrize("robot", [SIX, APART])
def test_preflight_listens_to_what_there_is(make: Callable[[Deployment], Robot], robot: Deployment):
    there, arm, hand = make(robot), "/joint_states has the 6 joints", "/hand/joint_states has the gripper"
    expected = {arm, hand} if robot is APART else {arm}
    until(robot, lambda well, wrong: {arm, hand} & well == expected, "joint states that are well")
    there.hand = False
    silent = {"/drivers publishes /hand/joint_states but nothing came. Look at its log"}
    expected = silent if robot is APART else set[str]()
    until(robot, lambda well, wrong: arm in well and silent & wrong == expected, "what is silent to be named")


HAS = "six has 6 joints that take trajectory and no gripper; the simulated arm is a Panda with 7 joints and a gripper"
REFUSALS = {
    "sim_bridge_node": f"{HAS} that take trajectory",
    "policy_node": "six has 6: base, shoulder, elbow, wrist_1, wrist_2, wrist_3 and no gripper",
}


@pytest.mark.parametrize("node", REFUSALS)
def test_nodes_that_need_another_robot_say_so_in_a_line(tmp_path: Path, node: str):
    with running(f"emu_robot_ros.{node}", "-p", f"robot:={write_robot(tmp_path, SIX_JOINTS)}") as process:
        output, _ = process.communicate(timeout=60)
    said = [line for line in output.splitlines() if REFUSALS[node] in line]
    assert len(said) == 1 and process.returncode == 1 and "Traceback" not in output


@pytest.mark.parametrize("node", ["teleop_node", "recorder_node", "sim_bridge_node"])
def test_a_wrong_robot_file_is_named_in_a_line(tmp_path: Path, node: str):
    path = write_robot(tmp_path, changed(SIX_JOINTS, "joints.lower", [-180] * 6))
    with running(f"emu_robot_ros.{node}", "-p", f"robot:={path}", "-p", f"folder:={tmp_path}") as process:
        output, _ = process.communicate(timeout=60)
    said = f"{path}: joints.lower[0] (base) is -180, must lie in [-12.6, 12.6] rad (in degrees?)"
    assert said in output and process.returncode == 1 and "Traceback" not in output


def test_a_recorder_says_that_a_robot_file_is_not_text(tmp_path: Path):
    path = write_robot(tmp_path, "")
    path.write_bytes(b"\xff\xfe")
    with running("emu_robot_ros.recorder_node", "-p", f"robot:={path}", "-p", f"folder:={tmp_path}") as process:
        output, _ = process.communicate(timeout=60)
    assert f"{path} is not UTF-8: byte 0 is 0xff" in output and "Traceback" not in output


def test_a_simulated_hand_tells_of_itself_where_its_robot_s_file_says(tmp_path: Path, make: Any):
    shipped = read_deployment("panda_sim")
    text = changed((ROBOTS / "panda_sim.yaml").read_text(), "gripper.joint_states", "/hand/joint_states")
    there, seen = make(SIX), dict[str, list[str]]()
    for topic in (f"{shipped.joint_states}", "/hand/joint_states"):
        there.node.create_subscription(
            JointState,
            topic,
            lambda message, topic=topic: seen.update({topic: list(message.name)}),
            qos.JOINT_STATES_IN,
        )
    with running("emu_robot_ros.sim_bridge_node", "-p", f"robot:={write_robot(tmp_path, text)}"):
        wait_until(lambda: seen.get("/hand/joint_states") == ["gripper"], "the hand's joint states", 60.0)
        wait_until(lambda: seen.get(shipped.joint_states) == list(shipped.joints.names), "the arm's joint states")
