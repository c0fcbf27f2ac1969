"""Teleoperation as a real node, through the real gate, of an arm that obeys."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from conftest import WAIT_S, running, wait_until
from emu_robot_interfaces.msg import PolicyStatus
from ros_robot import ROBOT, START, Peer
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool

from emu_robot_ros import qos, topics

GATE, NODE = "emu_robot_ros.safety_node", "emu_robot_ros.teleop_node"
AXES, BUTTONS, DEADMAN = 6, 8, 5
PAD, LEADER, SWITCH = INPUTS = "joy", "leader/joint_states", "deadman_switch"


class Operator:
    """A gamepad, a leader arm and a switch of their own, each repeated at 50 Hz while it is there."""

    def __init__(self, peer: Peer) -> None:
        self.axes, self.buttons = [0.0] * AXES, [0] * BUTTONS
        self.leader, self.has_pad, self.switch = START.copy(), True, False
        self.statuses: list[PolicyStatus] = []
        self.deadman: list[bool] = []
        node = peer.node
        self._pad = node.create_publisher(Joy, PAD, 10)
        self._arm = node.create_publisher(JointState, LEADER, 10)
        self._switch = node.create_publisher(Bool, SWITCH, 10)
        node.create_subscription(PolicyStatus, topics.POLICY_STATUS, self.statuses.append, qos.STATUS)
        node.create_subscription(Bool, topics.DEADMAN, self._on_deadman, qos.DEADMAN)
        node.create_timer(0.02, self._act)

    def _on_deadman(self, message: Bool) -> None:
        self.deadman.append(message.data)

    def _act(self) -> None:
        if self.has_pad:
            self._pad.publish(Joy(axes=self.axes, buttons=self.buttons))
        self._arm.publish(JointState(name=list(ROBOT.dimension_names), position=self.leader.tolist()))
        self._switch.publish(Bool(data=self.switch))


@pytest.fixture
def peer() -> Iterator[Peer]:
    found = Peer()
    found.alive = False
    yield found
    found.close()


@pytest.fixture
def operator(peer: Peer) -> Iterator[Operator]:
    with running(GATE):
        found = Operator(peer)
        wait_until(lambda: peer.state == "disarmed", "the gate to say that it is there")
        wait_until(lambda: peer.arm().success, "arming")
        yield found


def connected(peer: Peer) -> None:
    """Teleoperation is there, and has had time to hear the gate and its inputs."""
    wait_until(lambda: peer.node.count_publishers(topics.DEADMAN) > 0, "teleoperation")
    wait_until(lambda: peer.node.count_subscribers(topics.SAFETY_STATE) > 1, "its subscriptions")
    wait_until(lambda: any(peer.node.count_subscribers(topic) for topic in INPUTS), "its input")
    time.sleep(1.0)


def press_until_driving(peer: Peer, press: Callable[[bool], None]) -> None:
    """Press, and if nothing comes of it press anew: teleoperation must have heard the switch released before."""
    until = time.monotonic() + WAIT_S
    while peer.state != "tracking":
        assert time.monotonic() < until, "the arm is not driven"
        press(False)
        time.sleep(0.3)
        press(True)
        again = time.monotonic() + 2.0
        while peer.state != "tracking" and time.monotonic() < again:
            time.sleep(0.002)


def hold(peer: Peer) -> float:
    """How long the gate took to hold [s]."""
    before = time.monotonic()
    wait_until(lambda: peer.state == "holding", "hold")
    return peer.stated_at[-1] - before


def test_a_pad_jogs_the_arm_while_its_deadman_is_pressed(peer: Peer, operator: Operator):
    with running(NODE):
        connected(peer)
        operator.axes[1] = 1.0
        time.sleep(0.3)
        assert np.ptp([position for _, position in peer.commands], axis=0).max() == 0
        press_until_driving(peer, lambda pressed: operator.buttons.__setitem__(DEADMAN, int(pressed)))
        wait_until(lambda: peer.position[1] > START[1] + 0.1, "the second joint to move")
        assert operator.statuses[-1].instruction == "teleoperation" and operator.deadman[-1]
        operator.deadman.clear()
        operator.buttons[DEADMAN] = 0
        assert hold(peer) < 0.3
        time.sleep(0.3)
        where = peer.position.copy()
        time.sleep(0.3)
        assert np.abs(peer.position - where).max() < 1e-6
        assert operator.statuses[-1].instruction == "" and operator.deadman.count(False) == 1
        assert np.abs(np.delete(peer.position[:7] - START[:7], 1)).max() < 1e-3

        operator.axes[1], operator.buttons[DEADMAN] = -1.0, 1
        wait_until(lambda: peer.position[1] < where[1] - 0.05, "the joint to come back")
        operator.has_pad = False
        assert hold(peer) < 0.5
        operator.has_pad = True
        time.sleep(0.3)
        assert peer.state == "holding"  # the button has to be released first


def test_a_leader_is_followed_from_near_only(peer: Peer, operator: Operator):
    with running(NODE, "-p", "source:=leader", "-p", "deadman:=topic", "-p", "max_jump:=0.25") as process:
        connected(peer)
        press_until_driving(peer, lambda pressed: setattr(operator, "switch", pressed))
        for _ in range(40):
            operator.leader[0] += 0.005
            time.sleep(0.02)
        wait_until(lambda: abs(peer.position[0] - START[0] - 0.2) < 0.01, "the arm to follow")
        operator.switch = False
        assert hold(peer) < 0.3

        operator.leader[3] += 0.8
        time.sleep(0.4)  # the arm comes to rest
        before = peer.position.copy()
        operator.switch = True
        wait_until(lambda: operator.deadman[-1], "the switch to be heard")
        time.sleep(0.7)
        assert peer.state == "holding" and np.abs(peer.position - before).max() < 1e-3
        operator.leader[3] = START[3] + 0.2
        wait_until(lambda: abs(peer.position[3] - START[3] - 0.2) < 0.01, "the arm to catch up")
    output, _ = process.communicate()
    assert "the leader is +0.80 rad from the robot's joint4; bring it within 0.25 rad" in output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["robot:=so101", "deadman:=always"], "deadman always is for simulated robots"),
        (["source:=mouse"], "unknown source 'mouse'; known: joy, leader"),
        (["source:=leader", "leader_topic:=/joint_states"], "it would follow itself"),
        (["deadman:=topic", "deadman_topic:=deadman"], "deadman_topic cannot be deadman"),
        (["jog:=['elbow=1']"], "unknown joint 'elbow'"),
        (["rate_hz:=100.0"], "rate_hz"),
    ],
)
def test_wrong_settings_are_named(settings: list[str], message: str):
    with running(NODE, *(word for setting in settings for word in ("-p", setting))) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode != 0 and message in output
