"""What once moved an arm that it must not, against the real gate: joint states that lie, exits in motion, rivals.

Each row of docs/DEPLOY.md's table of failures that needs a process, a signal or a second publisher; the others are in
tests/control/safety.
"""

import copy
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import running, wait_until
from lifecycle_msgs.msg import Transition
from rclpy.action import ActionClient
from ros_robot import ROBOT, START, Peer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState

from emu_robot_ros import qos

NODE = "emu_robot_ros.safety_node"
SPEED = 0.3 / 2.95
"""Of the first joint along a chunk of `tracking` [rad/s]."""


@pytest.fixture
def peer() -> Iterator[Peer]:
    found = Peer()
    yield found
    found.close()


@pytest.fixture
def gate(peer: Peer) -> Iterator[subprocess.Popen[str]]:
    with running(NODE) as process:
        wait_until(lambda: peer.state == "disarmed", "the gate to say that it is there")
        yield process


def armed(peer: Peer) -> None:
    wait_until(lambda: peer.arm().success, "arming")
    wait_until(lambda: peer.state == "holding", "holding")


def tracking(peer: Peer) -> None:
    peer.send(0.3, n=60)
    wait_until(lambda: peer.state == "tracking", "tracking")
    wait_until(lambda: peer.velocities and peer.velocities[-1][0] > 0.9 * SPEED, "the arm to be under way")


def path(peer: Peer, since: int) -> np.ndarray:
    """(T,) commands of the first joint from that one on [rad]."""
    return np.array([position[0] for _, position in peer.commands[since:]])


@pytest.mark.parametrize("value", [50.0, 1.2, 1e300, float("nan")])
def test_one_joint_state_that_cannot_be_changes_nothing(gate: subprocess.Popen[str], peer: Peer, value: float):
    armed(peer)
    tracking(peer)
    once = [True]

    def glitch(message: JointState) -> None:
        if once:
            once.pop()
            message.position = [value, *list(message.position)[1:]]

    peer.garble = glitch
    wait_until(lambda: not once, "the glitch")
    wait_until(lambda: peer.state == "holding", "the chunk's end")
    assert peer.states[-1].reason == "no action left"
    assert peer.position[0] == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("stop", ["none", "estop"])
def test_a_second_publisher_of_joint_states_moves_nothing(gate: subprocess.Popen[str], peer: Peer, stop: str):
    peer.position[0] = -1.2
    armed(peer)
    tracking(peer)
    liar = peer.node.create_publisher(JointState, ROBOT.joint_states, qos.JOINT_STATES_OUT)
    zeros = START.copy()
    zeros[0] = 0.0

    def twice(message: JointState) -> None:
        lie = copy.deepcopy(message)
        lie.position = zeros.tolist()
        liar.publish(lie)

    n = len(peer.commands)
    peer.garble = twice
    if stop == "estop":
        peer.estop()
    wait_until(lambda: peer.state in ("fault", "estop"), "the contradiction to be noticed")
    time.sleep(0.5)
    went = path(peer, n - 1)
    assert went[-1] - went[0] < 0.1 and np.all(np.diff(went) >= -1e-9)


@pytest.mark.parametrize("told", ["degrees", "1e300", "outside", "two publishers"])
def test_arming_upon_states_that_cannot_be_sends_nothing(gate: subprocess.Popen[str], peer: Peer, told: str):
    def spoil(message: JointState) -> None:
        position = list(message.position)
        if told == "degrees":
            position = np.degrees(position).tolist()
        elif told == "1e300":
            position[0] = 1e300
        elif told == "outside":
            position[0] = 3.2
        elif len(peer.commands) == 0:
            position[0] = -1.0 * (time.monotonic() % 0.02 < 0.01)
        message.position = position

    peer.garble = spoil
    time.sleep(0.5)
    answer = peer.arm()
    assert not answer.success and "joint" in answer.message
    time.sleep(0.2)
    assert peer.commands == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_gate_that_is_told_to_end_brings_the_arm_to_rest_first(
    gate: subprocess.Popen[str], peer: Peer, number: signal.Signals
):
    armed(peer)
    tracking(peer)
    n = len(peer.commands)
    gate.send_signal(number)
    gate.send_signal(number)
    assert gate.wait(10) == 0
    time.sleep(0.1)
    assert not peer.velocities[-1].any()
    assert np.all(np.diff(path(peer, n - 1)) >= -1e-9)


@pytest.mark.parametrize("end", ["deactivate", "disarm"])
def test_commands_end_at_rest(gate: subprocess.Popen[str], peer: Peer, end: str):
    armed(peer)
    tracking(peer)
    ended = peer.arm(False) if end == "disarm" else peer.transition(Transition.TRANSITION_DEACTIVATE)
    assert ended.success
    wait_until(lambda: peer.state == "disarmed", "the gate to disarm")
    time.sleep(0.1)
    assert not peer.velocities[-1].any()


def test_a_gate_that_stood_still_does_not_go_on_at_its_old_speed(gate: subprocess.Popen[str], peer: Peer):
    armed(peer)
    tracking(peer)
    gate.send_signal(signal.SIGSTOP)
    time.sleep(0.1)
    n, place = len(peer.commands), peer.position[0]
    time.sleep(1.0)
    gate.send_signal(signal.SIGCONT)
    wait_until(lambda: len(peer.commands) > n, "commands after the standstill")
    time.sleep(0.3)
    assert peer.velocities[n][0] == 0.0
    assert np.abs(path(peer, n) - place).max() < 0.01


def test_a_client_of_the_controller_s_action_is_a_rival(gate: subprocess.Popen[str], peer: Peer):
    from control_msgs.action import FollowJointTrajectory

    armed(peer)
    client = ActionClient(peer.node, FollowJointTrajectory, "arm_controller/follow_joint_trajectory")
    wait_until(lambda: peer.state == "fault", "the rival to be noticed")
    assert "follow_joint_trajectory has 1 client" in peer.states[-1].reason
    assert not peer.reset().success or wait_until(lambda: peer.state == "fault", "the rival to be noticed again")
    assert peer.arm(False).success
    answer = peer.arm()
    assert not answer.success and "only the safety gate may command" in answer.message
    client.destroy()


@pytest.mark.parametrize("first", ["arm", "gripper"])
def test_arm_and_gripper_told_back_to_back_are_both_heard(gate: subprocess.Popen[str], peer: Peer, first: str):
    other = peer.node.create_publisher(JointState, ROBOT.joint_states, qos.JOINT_STATES_OUT)

    def apart(message: JointState) -> None:
        names, positions = list(message.name), list(message.position)
        grip = JointState(header=message.header, name=names[-1:], position=positions[-1:])
        arm = JointState(header=message.header, name=names[:-1], position=positions[:-1])
        now, later = (arm, grip) if first == "arm" else (grip, arm)
        other.publish(now)
        message.name, message.position = later.name, later.position

    peer.garble = apart
    armed(peer)
    n = len(peer.states)
    time.sleep(3.0)
    assert peer.state == "holding"
    assert sum("stale" in state.reason for state in peer.states[n:]) <= 1  # a machine that tests may pause


@pytest.mark.parametrize("hz", [10, 50])
def test_a_simulated_clock_of_few_steps_is_no_jump(hz: int):
    peer = Peer()
    clock = peer.node.create_publisher(Clock, "/clock", 10)
    peer.node.create_timer(1.0 / hz, lambda: clock.publish(Clock(clock=peer.node.get_clock().now().to_msg())))
    try:
        with running(NODE, "-p", "use_sim_time:=true", "-p", "clock_jump_s:=0.5"):
            armed(peer)
            tracking(peer)
            wait_until(lambda: peer.state == "holding", "the chunk's end")
            assert peer.states[-1].reason == "no action left"
    finally:
        peer.close()


def test_two_arms_of_one_type_keep_their_stops_apart(tmp_path: Path):
    left, right = Peer(namespace="left"), Peer(namespace="right")
    setting = f"estop_file:={tmp_path}/{{namespace}}/{{robot}}.estop"

    def node(side: str, after: Callable[[], None]) -> None:
        with running(NODE, "-r", f"__ns:=/{side}", "-p", setting):
            after()

    def stop_left() -> None:
        wait_until(lambda: left.state, "the left gate")
        assert left.estop().success

        def look_right() -> None:
            wait_until(lambda: right.state == "disarmed", "the right gate, which was not stopped")

        node("right", look_right)

    try:
        node("left", stop_left)
        assert (tmp_path / "left/panda_sim.estop").exists()
        assert not (tmp_path / "right/panda_sim.estop").exists()
    finally:
        left.close()
        right.close()


def test_two_gates_with_one_memory_are_refused(peer: Peer, estop_file: Path):
    with running(NODE, "-p", f"estop_file:={estop_file}"):
        wait_until(lambda: peer.state, "the first gate")
        with running(NODE, "-r", "__ns:=/other", "-p", f"estop_file:={estop_file}") as second:
            output, _ = second.communicate(timeout=30)
    assert second.returncode == 1
    assert "give each arm a namespace or an estop_file" in output and "Traceback" not in output


@pytest.mark.parametrize("source", ["TELEOP", "", "hacker"])
def test_a_source_that_is_not_on_the_list_does_not_move_the_arm(gate: subprocess.Popen[str], peer: Peer, source: str):
    armed(peer)
    for _ in range(10):
        peer.send(0.3, source=source)
        time.sleep(0.02)
    assert peer.state == "holding" and np.ptp(path(peer, 0)) == 0
