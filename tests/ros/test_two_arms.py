"""Two simulated arms side by side on one machine, each in a namespace of its own, each as bringup starts it."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest
from conftest import wait_until
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from emu_robot_interfaces.msg import ActionChunk, PolicyStatus
from ros_robot import ROBOT
from sensor_msgs.msg import JointState

from emu_robot.deploy.graph import read_graph
from emu_robot.deploy.processes import Processes
from emu_robot.deploy.ros_environment import node_processes
from emu_robot_ros import qos, topics
from emu_robot_ros.client import GraphClient
from emu_robot_ros.conversions import from_actions, positions

SIDES = ("left", "right")


class Arm(GraphClient):
    """One of the arms: its operator, a policy that sends chunks, and what is heard of it."""

    def __init__(self, side: str) -> None:
        super().__init__("operator", side)
        self.side = side
        self.position = np.zeros(0)
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        self._session, self._sequence = time.time_ns(), 0
        self._chunks = self.node.create_publisher(ActionChunk, topics.ACTION_CHUNK, qos.CHUNKS)
        self._statuses = self.node.create_publisher(PolicyStatus, topics.POLICY_STATUS, qos.STATUS)
        self.node.create_subscription(JointState, ROBOT.joint_states, self._on_joints, qos.JOINT_STATES_IN)
        self.node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, 10)
        self.node.create_timer(0.03, self._beat)

    @property
    def state(self) -> str:
        return self.gate.state if self.gate else ""

    def hold(self) -> None:
        """At rest, armed."""
        self.wait_until(lambda: self.gate and self.episode and len(self.position), f"the {self.side} arm", 60)
        self.arm()
        self.wait_until(lambda: self.state == "holding", "hold")

    def turn(self, angle: float) -> None:
        """One chunk that turns the first joint on by `angle` [rad] within two seconds."""
        self._sequence += 1
        actions = np.repeat(self.position[None], 40, axis=0)
        actions[:, 0] += np.linspace(0, angle, 40)
        chunk = ActionChunk(session=self._session, sequence=self._sequence, source="policy", dt=0.05)
        chunk.names, chunk.actions = list(ROBOT.dimension_names), from_actions(actions)
        chunk.header.stamp = self.node.get_clock().now().to_msg()
        self._chunks.publish(chunk)

    def _beat(self) -> None:
        self._statuses.publish(PolicyStatus(session=self._session, instruction="turn"))

    def _on_joints(self, message: JointState) -> None:
        found = positions(message)
        self.position = np.array([found[name] for name in ROBOT.dimension_names])

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics |= {status.name: status for status in message.status}


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Arm, Arm]]:
    """Gate and simulation of both; what they say goes to a file each."""
    folder, nodes = tmp_path_factory.mktemp("arms"), "safety,sim_bridge"
    with ExitStack() as stack:
        for side in SIDES:
            settings = {"safety.estop_file": str(folder / f"{side}.estop"), "sim_bridge.camera_hz": "2"}
            graph = read_graph(nodes=nodes, namespace=side, settings=settings)
            log = stack.enter_context((folder / f"{side}.log").open("w", buffering=1))
            stack.enter_context(Processes(node_processes(graph), say=lambda line, log=log: print(line, file=log)))
        left, right = (stack.enter_context(Arm(side)) for side in SIDES)
        left.hold()
        right.hold()
        yield left, right


@pytest.mark.parametrize("side", [0, 1], ids=SIDES)
def test_a_chunk_for_one_moves_that_one_alone(arms: tuple[Arm, Arm], side: int):
    moved, other = arms[side], arms[1 - side]
    before, others = moved.position.copy(), other.position.copy()
    goal = before[0] + 0.2
    while abs(moved.position[0] - goal) > 0.02:  # again where a machine that stood still had the gate hold it
        moved.turn(goal - moved.position[0])
        wait_until(lambda: moved.state == "tracking", "tracking")
        wait_until(lambda: moved.state == "holding", "the chunk's end")
        time.sleep(0.3)
    assert np.abs(other.position - others)[:-1].max() < 1e-3 and other.state == "holding"


def test_an_emergency_stop_of_one_leaves_the_other_working(arms: tuple[Arm, Arm]):
    left, right = arms
    left.turn(0.4)
    wait_until(lambda: left.state == "tracking", "tracking")
    left.estop()
    wait_until(lambda: left.state == "estop", "the stop")
    before = right.position.copy()
    right.turn(-0.2)
    wait_until(lambda: abs(right.position[0] - before[0] + 0.2) < 0.02, "the other to move")
    assert left.state == "estop" and right.state in ("tracking", "holding")
    left.reset_estop()
    wait_until(lambda: left.state in ("holding", "disarmed"), "reset")


def test_everything_of_an_arm_lies_in_its_namespace(arms: tuple[Arm, Arm]):
    left, _ = arms
    names = [name for name, _ in left.node.get_topic_names_and_types()]
    ours = [name for name in names if name.split("/")[1] not in SIDES]
    assert sorted(ours) == ["/diagnostics", "/parameter_events", "/rosout"]
    for side in SIDES:
        for topic in (ROBOT.command_topic, ROBOT.topics["gripper.topic"], ROBOT.joint_states, topics.SAFETY_STATE):
            assert left.node.count_publishers(f"/{side}/{topic}") == 1


def test_diagnostics_tell_the_arms_apart(arms: tuple[Arm, Arm]):
    left, right = arms
    names = {f"{side}/panda_sim: safety gate" for side in SIDES}
    for arm in arms:
        wait_until(lambda arm=arm: names <= set(arm.diagnostics), f"{names}, there are {set(arm.diagnostics)}")
    left.estop()
    stopped, well = (f"{side}/panda_sim: safety gate" for side in SIDES)
    wait_until(lambda: right.diagnostics[stopped].level == DiagnosticStatus.ERROR, "the stop in the diagnostics")
    assert right.diagnostics[well].level == DiagnosticStatus.OK
    left.reset_estop()
