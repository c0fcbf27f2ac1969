"""The page of a running graph: what real nodes say arrives on it, and it has nothing to command with."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import websockets
from conftest import wait_until
from emu_robot_interfaces.msg import ActionChunk, EpisodeState, PlannerStatus, PolicyStatus, SafetyState, Subgoal
from rclpy.node import Node
from ros_robot import ROBOT, START
from sensor_msgs.msg import Image, JointState
from spun_nodes import SpunNodes
from trajectory_msgs.msg import JointTrajectory

from emu_robot.watch.board import Board
from emu_robot.watch.thought import Ending, Mind, Thought
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import from_actions, from_image
from emu_robot_ros.watch import WatchNode

TASK = "put the red cube in the drawer"


def picture(value: int) -> np.ndarray:
    return np.full((32, 32, 3), value, np.uint8)


class Graph(SpunNodes):
    """Publishers of everything that planner, policy, gate and drivers say, and the node that watches them."""

    def __init__(self, namespace: str = "left") -> None:
        super().__init__()
        node = self.node = Node("others", context=self.context, namespace=namespace)
        self.subgoals = node.create_publisher(Subgoal, topics.SUBGOAL, qos.LATCHED)
        self.planner = node.create_publisher(PlannerStatus, topics.PLANNER_STATUS, qos.STATUS)
        self.policy = node.create_publisher(PolicyStatus, topics.POLICY_STATUS, qos.STATUS)
        self.gate = node.create_publisher(SafetyState, topics.SAFETY_STATE, qos.LATCHED)
        self.episode = node.create_publisher(EpisodeState, topics.EPISODE_STATE, qos.STATUS)
        self.chunks = node.create_publisher(ActionChunk, topics.ACTION_CHUNK, qos.CHUNKS)
        self.joints = node.create_publisher(JointState, ROBOT.joint_states, qos.JOINT_STATES_OUT)
        self.commands = node.create_publisher(JointTrajectory, ROBOT.command_topic, qos.COMMANDS)
        self.front = node.create_publisher(Image, ROBOT.cameras["front"], qos.CAMERA)
        self.progress, self._sent, self._sequence = 0.2, 0, 0
        self.speaks = True
        self.subgoal("grasp the red cube", 90)  # before anything listens: it is kept
        self.board = Board("a graph", planner_camera="front", foresees=False)
        self.watcher = WatchNode(ROBOT, self.board, context=self.context, namespace=namespace)
        node.create_timer(0.05, self._speak)
        self.spin(node, self.watcher)

    @property
    def view(self) -> Thought:
        return self.board.view

    def subgoal(self, words: str, value: int | None, instruction: str = TASK) -> None:
        self._sequence += 1
        message = Subgoal(session=3, sequence=self._sequence, instruction=instruction, subtask=words)
        if value is not None:
            message.image = from_image(picture(value), self.node.get_clock().now().to_msg())
        self.subgoals.publish(message)

    def _speak(self) -> None:
        if not self.speaks:
            return
        now, self._sent = self.node.get_clock().now().to_msg(), self._sent + 1
        self.planner.publish(PlannerStatus(session=3, sequence=self._sequence, state="waiting", planning=0.25))
        status = PolicyStatus(session=4, instruction=TASK, chunks=self._sent, progress=self.progress, inference=0.02)
        status.subgoal_session, status.subgoal_sequence, status.observation_age = 3, self._sequence, 0.01
        self.policy.publish(status)
        self.gate.publish(SafetyState(state="tracking"))
        names = list(ROBOT.dimension_names)
        chunk = ActionChunk(session=4, sequence=self._sent, source="policy", dt=0.05, names=names)
        chunk.header.stamp, chunk.actions = now, from_actions(np.repeat(START[None], 16, axis=0))
        self.chunks.publish(chunk)
        self.joints.publish(JointState(name=names, position=START.tolist()))
        self.commands.publish(JointTrajectory(joint_names=names[:7]))
        self.front.publish(from_image(picture(40), now))
        self.episode.publish(EpisodeState(seed=1, n_subtasks=2, subtasks_done=1))


@pytest.fixture
def graph() -> Iterator[Graph]:
    one = Graph()
    yield one
    one.close()


def until(graph: Graph, condition: Any, what: str) -> Thought:
    """The first view for which the condition holds."""
    wait_until(lambda: condition(graph.view), what)
    return graph.view


def test_plan_progress_chunk_gate_and_delays_of_a_graph_are_told(graph: Graph) -> None:
    view = until(graph, lambda seen: seen.steps and seen.steps[0].progress and seen.chunk is not None, "news")
    (step,) = view.steps
    assert (view.task, step.words, view.mind) == (TASK, "grasp the red cube", Mind.PURSUES)
    assert step.predicted is not None and step.predicted[0, 0, 0] == 90
    assert step.progress[-1] == pytest.approx(0.2)
    view = until(graph, lambda seen: len(seen.delays) >= 5 and seen.position is not None and seen.done, "delays")
    assert view.chunk is not None and view.chunk.actions.shape == (16, 8) and view.chunk.names == ROBOT.dimension_names
    assert view.position is not None
    np.testing.assert_allclose(view.position, START)
    delays = {delay.name: delay.last_s for delay in view.delays}
    assert delays["plan"] == pytest.approx(0.25) and delays["chunk"] == pytest.approx(0.02)
    assert {"period of commands", "picture taken to chunk here"} <= delays.keys()
    assert view.gate.state == "tracking" and view.done == (1, 2)
    assert view.pictures["front"][0, 0, 0] == 40


def test_subtasks_follow_each_other_until_the_task_is_complete_and_over(graph: Graph) -> None:
    until(graph, lambda seen: seen.steps and seen.steps[0].progress, "the first subtask")
    graph.progress = 0.99
    until(graph, lambda seen: seen.steps[0].progress[-1] > 0.9, "progress")
    graph.progress = 0.1
    graph.subgoal("put it in the drawer", 120)
    view = until(graph, lambda seen: len(seen.steps) == 2 and seen.steps[1].progress, "the second subtask")
    assert view.steps[0].ending is Ending.REACHED and view.steps[0].achieved is not None
    graph.subgoal("try again", None)
    view = until(graph, lambda seen: len(seen.steps) == 3, "the third subtask")
    assert view.steps[1].ending is Ending.LEFT  # its progress was low
    assert view.steps[2].predicted is None
    graph.subgoal("", None)
    until(graph, lambda seen: seen.mind is Mind.COMPLETE, "complete")
    graph.subgoal("", None, instruction="")
    until(graph, lambda seen: seen.mind is Mind.IDLE, "rest")
    graph.subgoal("open the drawer", 10, instruction="open the drawer")
    view = until(graph, lambda seen: seen.task == "open the drawer" and seen.steps, "another task")
    assert view.number == 2 and len(view.steps) == 1


def test_silence_is_told(graph: Graph) -> None:
    until(graph, lambda seen: seen.gate.state == "tracking", "the gate")
    graph.speaks = False
    view = until(graph, lambda seen: seen.gate.reason == "the gate is silent", "silence")
    assert view.gate.state == ""
    graph.speaks = True
    until(graph, lambda seen: any("gate: is back" in words for _, words in seen.lines), "its return")


def test_what_cannot_be_read_is_told_and_does_not_end_it(graph: Graph) -> None:
    until(graph, lambda seen: seen.chunk is not None, "a chunk")
    graph.speaks = False
    wrong = ActionChunk(names=["a", "b"], dt=0.05, actions=[1.0, 2.0, 3.0])
    picture = Image(height=2, width=2, encoding="rgb8", step=6)
    sent = ((graph.chunks, wrong, "cannot be read"), (graph.front, picture, "camera front"))
    for publisher, message, told in sent:

        def is_told(seen: Thought, publisher=publisher, message=message, told=told) -> bool:
            publisher.publish(message)  # again and again: the watcher's subscriptions are best effort
            time.sleep(0.1)
            return any(told in words for _, words in seen.lines)

        until(graph, is_told, told)


def test_it_has_nothing_to_command_with(graph: Graph) -> None:
    node = graph.watcher
    assert [one.topic_name for one in node.publishers] == ["/parameter_events"]
    assert list(node.services) == [] and list(node.clients) == []
    until(graph, lambda seen: seen.chunk is not None, "news")
    seen = node.get_publisher_names_and_types_by_node("watch", "/left")
    assert {name for name, _ in seen} <= {"/parameter_events"}


def test_the_process_serves_the_page_until_it_is_told_to_end(graph: Graph) -> None:
    command = [sys.executable, "-m", "emu_robot_ros.watch", "--namespace=left", "--port=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split()[-1]
        thoughts: list[dict[str, Any]] = []
        threading.Thread(target=lambda: asyncio.run(_listen(url, thoughts)), daemon=True).start()
        wait_until(lambda: thoughts and thoughts[-1]["steps"] and thoughts[-1]["chunk"], "a thought of the graph")
        assert thoughts[-1]["task"] == TASK and thoughts[-1]["source"] == "ROS 2 graph /left, panda_sim"
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()


async def _listen(url: str, thoughts: list[dict[str, Any]]) -> None:
    address = url.rstrip("/").replace("http", "ws") + "/ws"
    async with websockets.connect(address, origin=websockets.Origin(url.rstrip("/")), max_size=None) as page:
        with suppress(websockets.ConnectionClosed):  # the process was told to end
            async for message in page:
                if isinstance(message, str):
                    thoughts.append(json.loads(message))
