"""`emu-robot teleop arm=ros:...`: a session at the desk drives an obedient arm through the real gate of a graph."""

import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import WAIT_S, running, wait_until
from ros_robot import ROBOT, START, Peer
from sensor_msgs.msg import Image

from emu_robot.deploy.ros_environment import PROJECT
from emu_robot.errors import EmuRobotError
from emu_robot.teleop.desk import Desk, Order, OrderKind, Sample
from emu_robot.teleop.hand import Wish
from emu_robot.teleop.loop import Loop
from emu_robot.teleop.session import Session, SessionConfig
from emu_robot_ros import driven_arm, qos
from emu_robot_ros.conversions import from_image
from emu_robot_ros.driven_arm import RosArm, open_arm

GATE = "emu_robot_ros.safety_node"


class Cameras:
    """Publishes a grey picture of each camera at 20 Hz."""

    def __init__(self, peer: Peer) -> None:
        node = peer.node
        self._publishers = [node.create_publisher(Image, topic, qos.CAMERA) for topic in ROBOT.cameras.values()]
        self._node = node
        node.create_timer(0.05, self._show)

    def _show(self) -> None:
        stamp, picture = self._node.get_clock().now().to_msg(), np.full((32, 32, 3), 90, np.uint8)
        for publisher in self._publishers:
            publisher.publish(from_image(picture, stamp))


class Operator:
    """A session that drives the graph's arm, and an operator who holds or lets go."""

    def __init__(self, arm: RosArm) -> None:
        self.arm, self.desk = arm, Desk()
        session = Session(arm, self.desk, SessionConfig(countdown_s=0.0, watchdog_s=0.5))
        self.loop = Loop(session, 30)
        self.sample: Wish | None = None
        self.loop.watch(self._hold)
        self.loop.start()

    def order(self, kind: OrderKind) -> None:
        assert self.desk.order("ann", Order(kind=kind), time.monotonic()) == ""

    def drive(self, share: float | None) -> None:
        """Move the second joint at a share of its full speed; None: let go."""
        self.sample = None if share is None else Wish(joint=1, share=share)

    @property
    def reason(self) -> str:
        return self.loop.view.reason if self.loop.view else ""

    def _hold(self) -> None:
        wish = self.sample
        self.desk.drive("ann", Sample(at=time.monotonic(), pressed=wish is not None, wish=wish or Wish()))

    def close(self) -> None:
        self.loop.stop()
        self.arm.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    found = Peer()
    found.alive = False
    yield found
    found.close()


@pytest.fixture
def operator(peer: Peer) -> Iterator[Operator]:
    Cameras(peer)
    with running(GATE):
        wait_until(lambda: peer.state == "disarmed", "the gate to say that it is there")
        one = Operator(open_arm("panda_sim", {}))
        yield one
        one.close()


def armed(peer: Peer, operator: Operator) -> None:
    """*Resume*, again while the gate has not heard enough joint states."""
    until = time.monotonic() + WAIT_S
    while peer.state != "holding" or not operator.loop.view or not operator.loop.view.gate.is_armed:
        assert time.monotonic() < until, (peer.state, operator.reason, operator.arm.trouble)
        operator.order(OrderKind.RESUME)
        time.sleep(0.5)


def driven(peer: Peer, operator: Operator, share: float, until: Callable[[], Any], what: str) -> None:
    """Drive until something holds. A machine without CPU is held, and pressed again."""
    begun = time.monotonic()
    while not until():
        assert time.monotonic() - begun < WAIT_S, f"{what}: {operator.reason}; gate {peer.state}"
        operator.drive(share)
        again = time.monotonic() + 2.0
        while not until() and time.monotonic() < again:
            time.sleep(0.005)
        if not until():
            operator.drive(None)
            time.sleep(0.3)


def test_the_page_drives_the_arm_of_a_graph_through_its_gate_and_a_release_holds(peer: Peer, operator: Operator):
    operator.drive(0.8)
    time.sleep(0.5)
    assert peer.commands == [] and "disarmed" in operator.reason
    operator.drive(None)
    armed(peer, operator)
    at = peer.position[1]
    driven(peer, operator, 0.8, lambda: peer.position[1] > at + 0.1, "the second joint to move")
    operator.drive(None)
    wait_until(lambda: peer.state == "holding", "hold", 2.0)
    time.sleep(0.5)
    rests = peer.position.copy()
    time.sleep(0.3)
    assert np.abs(peer.position - rests).max() < 1e-6
    assert np.abs(np.delete(rests[:7] - START[:7], 1)).max() < 1e-3
    speeds = np.abs(peer.velocities).max(axis=1)
    assert 0.3 < np.median(speeds[speeds > 0.1]) < 0.6, "it was not driven at 0.4 rad/s"
    assert speeds.max() < 2.5, "it leapt: after a gap for want of CPU it may catch up, far below the limit of 4 rad/s"
    driven(peer, operator, -0.8, lambda: peer.position[1] < rests[1] - 0.05, "the joint to come back")


def test_a_stop_disarms_the_graph_until_resume_and_a_new_press(peer: Peer, operator: Operator):
    armed(peer, operator)
    driven(peer, operator, 0.8, lambda: peer.position[1] > START[1] + 0.03, "motion")
    operator.order(OrderKind.STOP)
    wait_until(lambda: peer.state == "disarmed", "the gate to be disarmed", 3.0)
    rests = peer.position.copy()
    time.sleep(0.5)
    assert np.abs(peer.position - rests).max() < 1e-6 and "disarmed" in operator.reason
    armed(peer, operator)
    time.sleep(0.5)
    assert np.abs(peer.position - rests).max() < 1e-3, "it went on by itself"
    operator.drive(None)
    time.sleep(0.3)
    driven(peer, operator, 0.8, lambda: peer.position[1] > rests[1] + 0.03, "motion after a new press")


def test_an_emergency_stop_of_the_graph_is_told_and_resume_clears_it(peer: Peer, operator: Operator):
    armed(peer, operator)
    peer.estop()
    wait_until(lambda: "estop" in operator.reason, "the reason on the page")
    armed(peer, operator)


def test_a_page_that_dies_is_held_by_the_graph(peer: Peer, operator: Operator):
    armed(peer, operator)
    driven(peer, operator, 0.8, lambda: peer.position[1] > START[1] + 0.03, "motion")
    operator.loop.stop()  # neither chunks nor deadman come any more, as after kill -9
    wait_until(lambda: peer.state == "holding", "hold", 2.0)


def test_what_is_missing_of_a_graph_is_named(peer: Peer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(driven_arm, "FIRST_S", 1.0)
    with pytest.raises(EmuRobotError, match=r"camera front .*the safety gate \(safety_state\); `emu-robot bringup`"):
        open_arm("panda_sim", {})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"port": "/dev/ttyACM0"}, "unknown setting of arm=ros 'arm.port'; known: arm.graph, arm.namespace"),
        ({"graph": "lab"}, "unknown arm.graph 'lab'; known: sim, arm"),
        ({"namespace": "9"}, "arm.namespace='9'"),
        ({"tool": "hand"}, "arm.tool is given without arm.urdf"),
        ({"urdf": "nowhere.urdf"}, "nowhere.urdf"),
    ],
)
def test_wrong_settings_are_one_line(words: dict[str, str], said: str):
    with pytest.raises((EmuRobotError, OSError)) as caught:
        open_arm("panda_sim", words)
    assert said in str(caught.value)


def test_the_verb_finds_the_python_with_ros_and_names_what_is_missing():
    plain = PROJECT / ".venv/bin/python"
    if not plain.exists():
        pytest.skip("no .venv beside .venv-ros")
    code = "from emu_robot.cli.main import main; raise SystemExit(main())"
    command = [
        str(plain),
        "-c",
        code,
        "teleop",
        "arm=ros:panda_sim",
        "arm.namespace=nothing_here",
        "out=null",
        "port=0",
    ]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 1 and "nothing heard within 10 s of camera front" in answer.stderr, answer
