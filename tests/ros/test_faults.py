"""What goes wrong around the gate, made to go wrong: processes stopped and killed, clocks, late and broken messages."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import running, wait_until
from ros_robot import START, Peer
from sensor_msgs.msg import JointState

NODE = "emu_robot_ros.safety_node"
HOLD_S = 0.3
"""The gate holds within 0.2 s; machines that test are slow and shared."""


@pytest.fixture
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    found = Peer(simulated=getattr(request, "param", False))
    yield found
    found.close()


@pytest.fixture
def gate(peer: Peer) -> Iterator[subprocess.Popen[str]]:
    with running(NODE) as process:
        yield process


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a policy as a process of its own; stopped or not, it is gone in the end."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    started = []

    def start() -> subprocess.Popen[str]:
        context = running("chunk_sender")
        started.append(context)
        return context.__enter__()

    yield start
    for context in started:
        context.__exit__(None, None, None)


def armed(peer: Peer) -> None:
    wait_until(lambda: peer.state == "disarmed", "the gate to say that it is there")
    wait_until(lambda: peer.arm().success, "arming")
    wait_until(lambda: peer.state == "holding", "holding")


def tracking(peer: Peer, goal: float = 0.3) -> None:
    """Armed, on its way for three seconds."""
    peer.send(goal, n=60)
    wait_until(lambda: peer.state == "tracking", "tracking")


def at_rest_since(peer: Peer) -> float:
    """When the first of the commands came that the last one does not differ from."""
    when, where = zip(*peer.commands, strict=True)
    moved = np.abs(np.array(where) - where[-1]).max(axis=1) > 1e-4
    return when[np.flatnonzero(moved)[-1] + 1]


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_policy_stopped_or_killed_is_held(
    gate: subprocess.Popen[str],
    peer: Peer,
    sender: Callable[[], subprocess.Popen[str]],
    number: signal.Signals,
    record_property: Callable[[str, object], None],
):
    peer.alive = False
    armed(peer)
    policy = sender()
    wait_until(lambda: peer.state == "tracking", "tracking")
    wait_until(lambda: peer.position[0] > 0.05, "the arm to move")
    before = time.monotonic()
    policy.send_signal(number)
    wait_until(lambda: peer.state == "holding", "hold")
    held = peer.stated_at[-1] - before
    time.sleep(0.3)
    rested = at_rest_since(peer) - before
    record_property("ms to hold", round(1000 * held))
    record_property("ms to rest", round(1000 * rested))
    print(f"{number.name}: held after {1000 * held:.0f} ms, at rest after {1000 * rested:.0f} ms")
    assert peer.states[-1].reason == "the policy is silent"
    assert held < HOLD_S and rested < HOLD_S + 0.1


def test_chunks_that_come_twice_or_late_change_nothing(gate: subprocess.Popen[str], peer: Peer):
    armed(peer)
    peer.sequence = 10
    tracking(peer)
    for _ in range(3):
        peer.send(-0.3, n=60, sequence=11)
        peer.send(-0.3, n=60, sequence=5)
    time.sleep(0.3)
    assert peer.state == "tracking"
    wait_until(lambda: peer.state == "holding", "the chunk's end")
    assert peer.states[-1].reason == "no action left"
    assert peer.position[0] == pytest.approx(0.3, abs=0.02)


def test_a_restarted_policy_gets_the_robot_from_a_person_alone(gate: subprocess.Popen[str], peer: Peer):
    armed(peer)
    tracking(peer)
    for _ in range(5):
        peer.send(-0.3, session=2)
    time.sleep(0.2)
    assert peer.state == "tracking" and peer.position[0] > 0
    peer.alive = False
    wait_until(lambda: peer.state == "holding", "hold")
    peer.session, peer.sequence, peer.alive = 2, 0, True
    peer.send(-0.3)
    wait_until(lambda: "disarm and arm to hand over" in peer.states[-1].reason, "the word of how to hand over")
    assert peer.arm(False).success
    wait_until(lambda: peer.arm().success, "arming")
    before = peer.position[0]
    tracking(peer, goal=-0.1)
    wait_until(lambda: peer.position[0] < before - 0.05, "the new policy's motion")


def not_a_number(message: JointState) -> None:
    message.position = [np.nan, *list(message.position)[1:]]


def a_joint_missing(message: JointState) -> None:
    message.name, message.position = list(message.name)[1:], list(message.position)[1:]


def too_few_positions(message: JointState) -> None:
    message.position = list(message.position)[:-2]


def too_many_positions(message: JointState) -> None:
    message.position = [*message.position, 0.0]


def test_joint_states_late_or_broken_hold_and_motion_needs_a_new_chunk(gate: subprocess.Popen[str], peer: Peer):
    armed(peer)

    def late(on: bool) -> None:
        peer.lag = 0.3 if on else 0.0

    def early(on: bool) -> None:
        peer.lag = -1.0 if on else 0.0

    def garbled(how: Callable[[JointState], None]) -> Callable[[bool], None]:
        return lambda on: setattr(peer, "garble", how if on else None)

    wrong = [garbled(how) for how in (not_a_number, a_joint_missing, too_few_positions, too_many_positions)]
    for spoil in (late, early, *wrong):
        tracking(peer, goal=0.1)
        spoil(True)
        wait_until(lambda: peer.states[-1].reason.startswith("joint states are"), "the hold")
        peer.send(0.1, n=60)
        time.sleep(0.1)
        assert peer.state == "holding"
        spoil(False)
        time.sleep(0.1)
        assert peer.state == "holding"


@pytest.mark.parametrize("peer", [True], indirect=True, ids=["simulated time"])
def test_a_clock_that_jumps_is_a_fault(peer: Peer):
    # A shared machine delivers the clock late now and then; the gate's own limit is 0.05 s.
    with running(NODE, "-p", "use_sim_time:=true", "-p", "clock_jump_s:=0.5", "-p", "future_tolerance_s:=0.2"):
        armed(peer)
        for jump in (2.0, -2.0):
            tracking(peer, goal=0.1)
            peer.ahead += jump
            wait_until(lambda: peer.state == "fault", "the jump to be noticed")
            assert "the clock jumped by" in peer.states[-1].reason
            wait_until(lambda: peer.reset().success, "reset")
            wait_until(lambda: peer.state == "holding", "holding")
            time.sleep(0.1)
    assert np.abs(peer.position[1:7] - START[1:7]).max() < 1e-3
