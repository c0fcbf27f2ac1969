"""The real policy, before cameras that fail: it falls silent in time, and goes on once they are well."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import LATE_S, running, wait_until
from emu_robot_interfaces.action import RunPolicy
from emu_robot_interfaces.msg import ActionChunk, PolicyStatus
from rclpy.action import ActionClient
from rclpy.node import Node
from spun_nodes import SpunNodes
from test_sensors import FRONT, MIXED, WRIST, Drivers, changed, cut_off, restamped, unstamped

from emu_robot.robots.deployment import ROBOTS
from emu_robot_ros import qos, topics


class Graph(SpunNodes):
    """Drivers and a listener in one process. chunks, working: when the last chunk and the last status came that says
    that something is being done [s].
    """

    def __init__(self) -> None:
        super().__init__()
        self.drivers, self.node = Drivers(MIXED, self.context), Node("operator", context=self.context)
        self.chunks = self.working = self.idle = 0.0
        self.node.create_subscription(ActionChunk, topics.ACTION_CHUNK, self._on_chunk, qos.CHUNKS)
        self.node.create_subscription(PolicyStatus, topics.POLICY_STATUS, self._on_status, qos.STATUS)
        self.client = ActionClient(self.node, RunPolicy, topics.RUN_POLICY)
        self.spin(self.drivers.node, self.node)

    def follow(self, words: str) -> None:
        assert self.client.wait_for_server(60.0), "no policy"
        goal = RunPolicy.Goal(instruction=words)
        sent: Any = self.executor.create_task(self.client.send_goal_async, goal)
        wait_until(lambda: sent.done() and sent.result().done(), "an answer")
        assert sent.result().result().accepted

    def _on_chunk(self, message: ActionChunk) -> None:
        self.chunks = time.monotonic()

    def _on_status(self, message: PolicyStatus) -> None:
        if message.instruction:
            self.working = time.monotonic()
        else:
            self.idle = time.monotonic()

    def stop(self) -> None:
        super().stop()
        self.client.destroy()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    folder: Path = tmp_path_factory.mktemp("policy")
    robot = folder / "mixed.yaml"
    robot.write_text((ROBOTS / "panda_sim.yaml").read_text().replace("wrist/image_raw", "wrist/image_raw/compressed"))
    with running("emu_robot_ros.policy_node", "-p", f"robot:={robot}", log=folder / "log") as process:
        yield process


@pytest.fixture(scope="module")
def graph(policy: subprocess.Popen[str]) -> Iterator[Graph]:
    made = Graph()
    made.follow("close the drawer")
    yield made
    made.close()


FAULTS: dict[str, dict[str, Any]] = {
    "stamped ahead": {FRONT: restamped(5.0), WRIST: restamped(5.0)},
    "a second late": {WRIST: restamped(-1.0)},
    "not stamped": {FRONT: unstamped},
    "dead": {WRIST: lambda message: None},
    "cut off": {WRIST: cut_off},
    "of bytes in unknown order": {FRONT: changed(encoding="8UC3")},
    "joint states ahead": {MIXED.joint_states: restamped(5.0)},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_stops_when_it_sees_nothing_new_and_goes_on_after(graph: Graph, fault: str):
    began = time.monotonic()
    wait_until(lambda: graph.chunks > began and graph.working > graph.idle, "chunks")
    began = time.monotonic()
    try:
        graph.drivers.spoil.update(FAULTS[fault])
        wait_until(lambda: graph.idle > began, "the policy to say that it stopped")
        stopped = graph.idle - began
        if fault == "stamped ahead":  # and then they die
            time.sleep(0.5)
            graph.drivers.spoil.update({FRONT: lambda message: None, WRIST: lambda message: None})
        time.sleep(1.0)
        print(f"{fault}: idle after {1000 * stopped:.0f} ms, at work until {1000 * (graph.working - began):.0f} ms")
        assert stopped < LATE_S and graph.working < began + LATE_S and graph.chunks < began + LATE_S
    finally:
        graph.drivers.spoil.clear()
