"""The life of real nodes: configured again and again, deactivated at work, told to end while they compute."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import running, wait_until
from emu_robot_interfaces.action import RunPolicy
from emu_robot_interfaces.msg import PlannerStatus, PolicyStatus, SafetyState
from emu_robot_interfaces.srv import ResetEpisode
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.action import ActionClient
from ros_robot import ROBOT, START
from sensor_msgs.msg import Image, JointState

from emu_robot_ros import qos, topics
from emu_robot_ros.client import GraphClient, GraphError
from emu_robot_ros.conversions import from_image

DOWN = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
UP = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
type Counts = dict[str, tuple[int, int]]


class Surroundings(GraphClient):
    """A client that also is a robot at rest, armed, for planner and policy: drivers, gate, a policy that is idle."""

    def __init__(self) -> None:
        super().__init__("surroundings")
        node = self.node
        self.status = PlannerStatus()
        self._joints = node.create_publisher(JointState, ROBOT.joint_states, qos.JOINT_STATES_OUT)
        self._cameras = [node.create_publisher(Image, topic, qos.CAMERA) for topic in ROBOT.cameras.values()]
        self._states = node.create_publisher(SafetyState, topics.SAFETY_STATE, qos.LATCHED)
        self._statuses = node.create_publisher(PolicyStatus, topics.POLICY_STATUS, qos.STATUS)
        node.create_subscription(PlannerStatus, topics.PLANNER_STATUS, self._on_planner, qos.STATUS)
        node.create_timer(0.05, self._sense)
        self._count = 0

    def change(self, name: str, *transitions: int) -> None:
        """Transitions of a node, one after the other; each must succeed."""
        client = self.node.create_client(ChangeState, f"{name}/change_state")
        for number in transitions:
            answer = self._call(client, ChangeState.Request(transition=Transition(id=number)), 60.0)
            assert answer.success, f"{name}: transition {number}"
        self.node.destroy_client(client)

    def counts(self) -> Counts:
        """Publishers and subscriptions of every topic, servers and clients of every service."""
        node = self.node
        there = {name: (node.count_publishers(name), node.count_subscribers(name)) for name, _ in topics_of(node)}
        services = [name for name, _ in node.get_service_names_and_types()]
        return there | {f"service {name}": (node.count_services(name), node.count_clients(name)) for name in services}

    def _on_planner(self, message: PlannerStatus) -> None:
        self.status = message

    def _sense(self) -> None:
        now, self._count = self.node.get_clock().now().to_msg(), self._count + 1
        joints = JointState(name=list(ROBOT.dimension_names), position=START.tolist())
        joints.header.stamp = now
        self._joints.publish(joints)
        pixels = np.arange(48 * 64 * 3).reshape(48, 64, 3) * 7 + self._count
        for publisher in self._cameras:
            publisher.publish(from_image((pixels % 250).astype(np.uint8), now))
        self._states.publish(SafetyState(state="holding"))
        self._statuses.publish(PolicyStatus())


def topics_of(node: Any) -> list[tuple[str, list[str]]]:
    return [one for one in node.get_topic_names_and_types() if not one[0].startswith("/ros_discovery")]


@pytest.fixture
def around() -> Iterator[Surroundings]:
    with Surroundings() as made:
        yield made


@contextmanager
def node(name: str, around: Surroundings, tmp_path: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Active: its services are there, and what it opens when it is configured."""
    with running(f"emu_robot_ros.{name}_node", *more, log=tmp_path / f"{name}.log") as process:
        client = around.node.create_client(ChangeState, f"{name}/change_state")
        wait_until(client.service_is_ready, name, 60)
        around.node.destroy_client(client)
        yield process


NODES = {
    "planner": (topics.EXECUTE_TASK, []),
    "policy": (topics.RUN_POLICY, []),
    "sim_bridge": (topics.RESET_EPISODE, []),
    "recorder": (topics.RECORD_EPISODE, ["folder:={folder}"]),
    "teleop": (topics.ACTION_CHUNK, []),
    "safety": (topics.ARM, []),
}


@pytest.mark.parametrize("name", NODES)
def test_configured_again_a_node_is_there_once(name: str, around: Surroundings, tmp_path: Path):
    served, settings = NODES[name]
    arguments = [word for setting in settings for word in ("-p", setting.format(folder=tmp_path / "recordings"))]
    before = around.counts()
    with node(name, around, tmp_path, *arguments):
        wait_until(lambda: any(served in topic for topic in added(before, around.counts())), served, 60)
        time.sleep(0.5)  # what it opens last
        first = around.counts()
        for _ in range(2):
            around.change(name, *DOWN)
            wait_until(lambda: not any(served in topic for topic in added(before, around.counts())), f"no {served}")
            around.change(name, *UP)
        wait_until(lambda: around.counts() == first, f"{differ(first, around.counts())} to be as at first")
        time.sleep(0.5)
        assert not differ(first, around.counts())


def added(before: Counts, now: Counts) -> set[str]:
    """Names of which there are more ends than before."""
    return {name for name, ends in now.items() if sum(ends) > sum(before.get(name, (0, 0)))}


def differ(one: Counts, other: Counts) -> dict[str, Any]:
    return {key: (one.get(key), other.get(key)) for key in {*one, *other} if one.get(key) != other.get(key)}


def test_a_planner_deactivated_at_work_ends_the_task_and_takes_none(around: Surroundings, tmp_path: Path):
    with node("planner", around, tmp_path):
        task = around.execute("close the drawer", 60.0)
        wait_until(lambda: around.status.state in ("planning", "waiting"), "the task to begin")
        around.change("planner", Transition.TRANSITION_DEACTIVATE)
        result = task.result(5)
        assert not result.success and result.message == "the planner was deactivated"
        with pytest.raises(GraphError, match="refuses the task"):
            around.execute("close the drawer")
        with pytest.raises(GraphError, match="the planner is not active"):
            around.set_task("open the drawer")
        around.change("planner", Transition.TRANSITION_CLEANUP, *UP)
        task = around.execute("close the drawer", 60.0)
        wait_until(lambda: around.status.state in ("planning", "waiting"), "another task to begin")
        task.cancel()
        assert task.result(20).message == "canceled"


def test_a_policy_deactivated_at_work_ends_what_it_does(around: Surroundings, tmp_path: Path):
    action = ActionClient(around.node, RunPolicy, topics.RUN_POLICY)
    with node("policy", around, tmp_path):
        wait_until(action.server_is_ready, "the policy", 60)
        wanted = RunPolicy.Goal(instruction="close the drawer", time_limit=60.0)
        goal = around.wait(around.sent(action.send_goal_async, wanted), "a goal")
        result = around.sent(goal.get_result_async)
        time.sleep(0.5)
        around.change("policy", Transition.TRANSITION_DEACTIVATE)
        said = around.wait(result, "the end", 5).result
        assert not said.success and said.message == "the policy was deactivated"
        assert not around.wait(around.sent(action.send_goal_async, wanted), "a refusal").accepted
        around.change("policy", Transition.TRANSITION_CLEANUP, *UP)
        wait_until(action.server_is_ready, "the policy", 60)
        goal = around.wait(around.sent(action.send_goal_async, RunPolicy.Goal(instruction="a", time_limit=0.3)), "it")
        assert around.wait(around.sent(goal.get_result_async), "the end", 20).result.message == "time is up"
    action.destroy()


def test_a_simulation_that_is_not_active_lays_no_scene(around: Surroundings, tmp_path: Path):
    client = around.node.create_client(ResetEpisode, topics.RESET_EPISODE)
    with node("sim_bridge", around, tmp_path):
        wait_until(client.service_is_ready, "the simulation", 60)

        def reset() -> ResetEpisode.Response:
            return around.wait(around.sent(client.call_async, ResetEpisode.Request(seed=1)), "an answer", 30)

        wait_until(lambda: reset().success, "the simulation to be active")
        around.change("sim_bridge", Transition.TRANSITION_DEACTIVATE)
        refused = reset()
        assert (refused.success, refused.message) == (False, "the simulation is not active")
        around.change("sim_bridge", Transition.TRANSITION_ACTIVATE)
        assert reset().success
    around.node.destroy_client(client)


@contextmanager
def load() -> Iterator[None]:
    """Two processes that compute beside the others."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        yield
    finally:  # left over, they would slow down all that comes after a failure
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_planner_that_computes_ends_within_what_launch_gives_it(
    number: signal.Signals, around: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
):  # fmt: skip
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    log = tmp_path / "log"
    with running("slow_planner", log=log) as process:
        task = around.execute("close the drawer", 60.0)
        wait_until(lambda: "computing" in log.read_text(), "a plan to be computed")
        with load():
            time.sleep(0.5)
            began = time.monotonic()
            process.send_signal(number)
            result = task.result(5)
            process.wait(20)
            took = time.monotonic() - began
    record_property("s to end", round(took, 2))
    assert result.message in ("the planner was shut down", "the planner was deactivated")
    assert process.returncode == 0 and took < 5.0, log.read_text()
