"""The safety gate as a real node in its own process, and an arm that obeys."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import running, wait_until
from lifecycle_msgs.msg import Transition
from ros_robot import START, Peer
from state_diagram import SEEN_BY_THE_NODE, drawn_transitions
from trajectory_msgs.msg import JointTrajectory

from emu_robot_ros import qos

NODE = "emu_robot_ros.safety_node"


@pytest.fixture
def peer() -> Iterator[Peer]:
    found = Peer()
    yield found
    found.close()


@pytest.fixture
def gate(peer: Peer, estop_file: Path) -> Iterator[subprocess.Popen[str]]:
    with running(NODE, "-p", f"estop_file:={estop_file}") as process:
        wait_until(lambda: peer.state == "disarmed", "the gate to say that it is there")
        yield process


def armed(peer: Peer) -> None:
    def arm() -> bool:
        return peer.arm().success  # not before it has a joint state

    wait_until(arm, "arming")
    wait_until(lambda: peer.state == "holding", "holding")


def test_a_chunk_moves_the_arm_and_wrong_ones_do_not(gate: subprocess.Popen[str], peer: Peer):
    assert peer.commands == []
    armed(peer)
    peer.send(actions=np.full(16, np.nan).tolist())
    peer.send(names=["a", "b"])
    peer.send(age=3.0)
    peer.send(age=-3.0)
    time.sleep(0.3)
    assert np.ptp([position for _, position in peer.commands], axis=0).max() == 0
    peer.send(0.2)
    wait_until(lambda: peer.state == "tracking", "tracking")
    wait_until(lambda: peer.state == "holding", "the chunk's end")
    wait_until(lambda: abs(peer.position[0] - 0.2) < 0.02, "the arm to arrive")
    assert np.abs(peer.position[1:7] - START[1:7]).max() < 1e-3


def test_a_silent_policy_is_held_within_200_ms(gate: subprocess.Popen[str], peer: Peer):
    armed(peer)
    peer.send(0.3, n=60)
    wait_until(lambda: peer.state == "tracking", "tracking")
    time.sleep(0.2)
    peer.alive, before = False, time.monotonic()
    wait_until(lambda: peer.state == "holding", "hold")
    assert time.monotonic() - before < 0.3  # of which the test's own looking takes a part
    assert peer.states[-1].reason == "the policy is silent"


def test_a_policy_that_goes_idle_is_held_within_100_ms(gate: subprocess.Popen[str], peer: Peer):
    armed(peer)
    peer.send(0.3, n=60)
    wait_until(lambda: peer.state == "tracking", "tracking")
    time.sleep(0.2)
    peer.instruction = ""
    wait_until(lambda: peer.idled_at, "the idle status to be sent")
    wait_until(lambda: peer.state == "holding", "hold")
    assert peer.stated_at[-1] - peer.idled_at < 0.1
    assert peer.states[-1].reason == "the policy stopped"


def test_an_emergency_stop_outlives_the_process(gate: subprocess.Popen[str], peer: Peer, estop_file: Path):
    armed(peer)
    peer.send(0.3, n=60)
    wait_until(lambda: peer.state == "tracking", "tracking")
    assert peer.estop().success
    wait_until(lambda: peer.state == "estop", "the stop")
    gate.send_signal(signal.SIGKILL)
    gate.wait(10)
    assert estop_file.exists()
    peer.states.clear()
    with running(NODE, "-p", f"estop_file:={estop_file}"):
        wait_until(lambda: peer.state == "estop", "the stop to be remembered")
        assert not peer.arm().success
        wait_until(lambda: peer.reset().success, "reset")
        assert not estop_file.exists()
        armed(peer)


def enter(peer: Peer, state: str) -> None:
    """Bring the gate from any state to this one, as a person and a policy would."""
    if peer.state in ("fault", "estop"):
        wait_until(lambda: peer.reset().success, "reset")
    if state == "disarmed":
        wait_until(lambda: peer.arm(on=False).success and peer.state == "disarmed", "disarming")
        return
    wait_until(lambda: peer.state in ("disarmed", "holding"), "rest")
    if peer.state == "disarmed":
        armed(peer)
    if state == "tracking":
        peer.send(0.2, n=200)
        wait_until(lambda: peer.state == "tracking", "tracking")
    elif state == "estop":
        assert peer.estop().success
        wait_until(lambda: peer.state == "estop", "the stop")


@contextmanager
def a_jump_of_the_clock(peer: Peer) -> Iterator[None]:
    peer.ahead += 2.0
    yield


@contextmanager
def a_rival(peer: Peer) -> Iterator[None]:
    topic = "/arm_controller/joint_trajectory"
    rival = peer.node.create_publisher(JointTrajectory, topic, qos.COMMANDS)
    try:
        yield
    finally:
        peer.node.destroy_publisher(rival)
        wait_until(lambda: peer.node.count_publishers(topic) == 1, "the rival to be gone")


SEEN = {"clock jump": (a_jump_of_the_clock, "the clock jumped by"), "rival": (a_rival, "2 publishers")}
NOTICED_S = 2.5
"""Longest that the node takes to notice one of these, by its diagnostics once a second."""


@pytest.mark.parametrize("label", sorted(SEEN_BY_THE_NODE))
def test_the_diagram_is_right_of_what_only_the_node_sees(label: str, estop_file: Path):
    """From every state but fault, the one that they lead to."""
    drawn = {start: end for (start, end), labels in drawn_transitions().items() if label in labels}
    happen, reason = SEEN[label]
    settings = ("use_sim_time:=true", "clock_jump_s:=0.5", "future_tolerance_s:=0.2", f"estop_file:={estop_file}")
    arguments = [word for setting in settings for word in ("-p", setting)]
    with closing(Peer(simulated=True)) as peer, running(NODE, *arguments):
        for state in ("disarmed", "holding", "tracking", "estop"):
            wait_until(lambda: peer.state, "the gate to say that it is there")
            enter(peer, state)
            with happen(peer):
                if state in drawn:
                    wait_until(lambda start=state: peer.state == drawn[start], f"{label} to be noticed in {state}")
                    assert reason in peer.states[-1].reason
                else:
                    time.sleep(NOTICED_S)
                    assert peer.state == state


def test_nobody_else_may_command_the_arm(gate: subprocess.Popen[str], peer: Peer):
    armed(peer)
    topic = "/arm_controller/joint_trajectory"
    rival = peer.node.create_publisher(JointTrajectory, topic, qos.COMMANDS)
    wait_until(lambda: peer.state == "fault", "the rival to be noticed")
    assert "2 publishers" in peer.states[-1].reason
    peer.node.destroy_publisher(rival)


def test_it_stops_commanding_when_deactivated_and_can_be_configured_anew(gate: subprocess.Popen[str], peer: Peer):
    armed(peer)
    peer.send(0.3, n=60)
    wait_until(lambda: peer.state == "tracking", "tracking")
    assert peer.transition(Transition.TRANSITION_DEACTIVATE).success
    wait_until(lambda: peer.state == "disarmed", "the gate to disarm")
    time.sleep(0.05)  # what it sent before arrives
    n_commands = len(peer.commands)
    time.sleep(0.2)
    assert len(peer.commands) == n_commands
    for number in (Transition.TRANSITION_CLEANUP, Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert peer.transition(number).success
    armed(peer)  # refused if publishers of its life before were left
    wait_until(lambda: len(peer.commands) > n_commands, "commands")


def test_a_gate_that_is_configured_and_not_active_does_not_arm(gate: subprocess.Popen[str], peer: Peer):
    armed(peer)
    assert peer.transition(Transition.TRANSITION_DEACTIVATE).success
    refused = peer.arm()
    assert (refused.success, refused.message) == (False, "cannot arm: the safety node is not active")
    assert peer.arm(on=False).success  # it is disarmed already
    assert peer.transition(Transition.TRANSITION_CLEANUP).success
    assert peer.transition(Transition.TRANSITION_CONFIGURE).success
    refused = peer.arm()
    assert (refused.success, refused.message) == (False, "cannot arm: the safety node is not active")
    assert peer.state == "disarmed"
    assert peer.estop().success  # a stop is taken at any time
    assert peer.transition(Transition.TRANSITION_ACTIVATE).success
    wait_until(lambda: peer.state == "estop", "the stop to be kept")
    wait_until(lambda: peer.reset().success, "reset")
    armed(peer)


def test_joint_states_that_stop_are_noticed(gate: subprocess.Popen[str], peer: Peer):
    armed(peer)
    peer.send(0.3, n=60)
    wait_until(lambda: peer.state == "tracking", "tracking")
    peer.senses = False
    wait_until(lambda: peer.states[-1].reason == "joint states are stale", "the silence to be noticed")


@pytest.mark.parametrize("setting", ["blend_s:=99.0", "max_rejections:=0", "gripper_effort:=-1.0"])
def test_a_setting_out_of_range_is_refused(setting: str):
    with running(NODE, "-p", setting) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode != 0 and setting.split(":")[0] in output
