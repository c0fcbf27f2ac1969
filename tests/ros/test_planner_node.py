"""The planner node, before cameras that stand still: its plans are those of a policy in one process, to the bit."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import running, wait_until
from emu_robot_interfaces.msg import PolicyStatus, SafetyState, Subgoal
from emu_robot_interfaces.srv import SetTask
from rclpy.node import Node
from ros_robot import ROBOT
from spun_nodes import SpunNodes
from test_sensors import Drivers

from emu_robot.core import Observation, PlanStep, PolicyEvent
from emu_robot.models.weights import add_extra, copy_weights, resolve_weights
from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.planner import Planner
from emu_robot.planner.task_execution import TaskExecution
from emu_robot.policy.emu_policy import load_policy
from emu_robot.shared.draws import EpisodeSeed
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import from_image, to_image
from emu_sim.environment import TabletopEnvironment

SEED = 7
SETTINGS = ReplanConfig(dwell=1, recheck_chunks=50)
"""One chunk near its end completes a step."""


@pytest.fixture(scope="module")
def scene() -> Iterator[tuple[str, Observation]]:
    environment = TabletopEnvironment(["push"])
    observation = environment.reset(10_000_001)
    yield environment.instruction, observation
    environment.close()


class Graph(SpunNodes):
    """Drivers that show one picture, a gate that holds, and a policy that says how far it is. subgoals: heard."""

    def __init__(self, picture: np.ndarray) -> None:
        super().__init__()
        self.drivers, self.node = Drivers(ROBOT, self.context), Node("operator", context=self.context)
        front = ROBOT.cameras["front"]
        self.drivers.spoil[front] = lambda message: from_image(picture, message.header.stamp)
        self.subgoals: list[Subgoal] = []
        self.progress, self._chunks = 0.1, 0
        self.node.create_subscription(Subgoal, topics.SUBGOAL, self._on_subgoal, qos.LATCHED)
        self._gate = self.node.create_publisher(SafetyState, topics.SAFETY_STATE, qos.LATCHED)
        self._policy = self.node.create_publisher(PolicyStatus, topics.POLICY_STATUS, qos.STATUS)
        self.client = self.node.create_client(SetTask, topics.SET_TASK)
        self.node.create_timer(0.1, self._tell)
        self.spin(self.drivers.node, self.node)

    def _on_subgoal(self, message: Subgoal) -> None:
        if message.subtask:
            self.progress = 0.1
            self.subgoals.append(message)

    def _tell(self) -> None:
        self._gate.publish(SafetyState(state="holding"))
        status, self._chunks = PolicyStatus(session=1, progress=self.progress), self._chunks + 1
        if self.subgoals:
            last = self.subgoals[-1]
            status.instruction, status.chunks = last.instruction, self._chunks
            status.subgoal_session, status.subgoal_sequence = last.session, last.sequence
        self._policy.publish(status)

    def set_task(self, instruction: str) -> None:
        assert self.client.wait_for_service(60.0), "no planner"
        sent: Any = self.client.call_async(SetTask.Request(instruction=instruction))
        wait_until(sent.done, "an answer")
        assert sent.result().success, sent.result().message

    def next_step(self, known: int) -> PlanStep:
        """The step after `known` others."""
        wait_until(lambda: len(self.subgoals) > known, "a subgoal")
        return PlanStep(subtask=self.subgoals[known].subtask, subgoal=to_image(self.subgoals[known].image))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    words = [f"seed:={SEED}", f"dwell:={SETTINGS.dwell}", f"recheck_chunks:={SETTINGS.recheck_chunks}"]
    arguments = [word for given in words for word in ("-p", given)]
    with running("emu_robot_ros.planner_node", *arguments, log=tmp_path / "log") as process:
        yield process


def in_process(instruction: str, observation: Observation) -> list[PlanStep]:
    """Two plans of the first task, the first of the second."""
    planner = Planner.load(resolve_weights("mini"), int8=True)

    def task(episode: int) -> TaskExecution:
        return TaskExecution(
            planner, instruction, SETTINGS, steps_per_chunk=8, segment_steps_p90=80, clock=lambda: 0.0,
            episode=EpisodeSeed(SEED, episode),
        )  # fmt: skip

    steps = []
    for one, plans in ((task(0), 2), (task(1), 1)):
        for _ in range(plans):
            assert one.plan(observation) is PolicyEvent.PLANNED and one.step is not None
            steps.append(one.step)
    return steps


def test_its_plans_are_those_of_a_policy_in_one_process(
    scene: tuple[str, Observation], node: subprocess.Popen[str]
) -> None:
    torch.set_num_threads(1)
    instruction, observation = scene
    graph = Graph(observation.images["front"])
    try:
        graph.set_task(instruction)
        found = [graph.next_step(0)]
        graph.progress = 0.95
        found.append(graph.next_step(1))
        graph.set_task(instruction)
        found.append(graph.next_step(2))
    finally:
        graph.close()
    expected = in_process(instruction, observation)
    policy = load_policy("mini", seed=SEED)
    for step in (expected[0], expected[2]):
        policy.reset(instruction)
        planned = policy.act(observation).step
        assert planned is not None and planned.subgoal is not None and step.subgoal is not None
        np.testing.assert_array_equal(planned.subgoal, step.subgoal)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.subtask == theirs.subtask and ours.subgoal is not None and theirs.subgoal is not None
        np.testing.assert_array_equal(ours.subgoal, theirs.subgoal)
    first, second = (step.subgoal for step in expected[:2])
    assert first is not None and second is not None and not np.array_equal(first, second)  # another plan, another draw


def test_weights_may_name_the_instruction_as_their_goal(scene: tuple[str, Observation], tmp_path: Path) -> None:
    instruction, observation = scene
    weights = tmp_path / "weights"
    copy_weights(resolve_weights("mini"), weights)
    add_extra(weights, "head", goal="none")
    with running("emu_robot_ros.planner_node", "-p", f"weights:={weights}", log=tmp_path / "log"):
        graph = Graph(observation.images["front"])
        try:
            graph.set_task(instruction)
            wait_until(lambda: len(graph.subgoals) > 0, "a subgoal")
        finally:
            graph.close()
    assert graph.subgoals[0].subtask == instruction and not graph.subgoals[0].image.data
    assert "goal=none" in (tmp_path / "log").read_text()
