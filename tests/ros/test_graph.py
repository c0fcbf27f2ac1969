"""The whole graph, as separate processes: simulation, planner, policy and gate pursue a real task."""

import math
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import LATE_S, running, wait_until
from emu_robot_interfaces.action import RunPolicy
from rclpy.action import ActionClient

from emu_robot_ros import topics
from emu_robot_ros.client import GraphClient, GraphError

NODES = ("safety", "sim_bridge", "policy", "planner")

type Graph = dict[str, subprocess.Popen[str]]


@contextmanager
def running_graph(logs: Path) -> Iterator[Graph]:
    """Every node, with a log."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(running(f"emu_robot_ros.{name}_node", log=logs / f"{name}.log")) for name in NODES
        }


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """Started once."""
    with running_graph(tmp_path_factory.mktemp("nodes")) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def client(graph: Graph) -> Iterator[GraphClient]:
    with GraphClient() as made:
        made.wait_for_graph()
        yield made


def begun(client: GraphClient, family: str = "close_drawer") -> str:
    instruction = client.reset_episode(2003, family, "seen")
    wait_until(lambda: client.gate and client.gate.state == "holding", "the gate to hold")
    return instruction


def tracking(client: GraphClient) -> bool:
    return client.gate is not None and client.gate.state == "tracking"


def test_a_task_is_planned_executed_and_held_complete(client: GraphClient):
    instruction = begun(client)
    result = client.execute(instruction, 60.0).result(80)
    assert result.success, result.message
    assert result.subtasks == ["close the drawer"]
    assert client.episode is not None and client.episode.success
    pictures = [feedback.image for _, feedback in client.feedback if feedback.image.data]
    assert pictures and pictures[0].width == pictures[0].height == 128
    told = [feedback.progress for _, feedback in client.feedback if not math.isnan(feedback.progress)]
    assert max(told) > 0.8
    client.wait_until(lambda: not tracking(client), "rest")


def test_a_task_can_be_canceled_and_the_arm_rests(client: GraphClient):
    task = client.execute(begun(client), 60.0)
    client.wait_until(lambda: tracking(client), "motion")
    task.cancel()
    result = task.result(20)
    assert not result.success and result.message == "canceled"
    assert client.wait_until(lambda: not tracking(client), "rest") < LATE_S


def test_an_emergency_stop_ends_the_task(client: GraphClient):
    task = client.execute(begun(client), 60.0)
    client.wait_until(lambda: tracking(client), "motion")
    client.estop()
    result = task.result(20)
    assert not result.success and "not armed: estop" in result.message
    refused = client.execute("open the drawer").result(20)
    assert not refused.success and "not armed: estop" in refused.message and refused.subtasks == []
    client.reset_estop()


def test_tasks_replace_each_other_by_set_task(client: GraphClient):
    instruction = begun(client, "pick_place")
    task = client.execute(instruction, 60.0)
    client.wait_until(lambda: tracking(client), "motion")
    time.sleep(0.5)  # an arm that has only just left its rest is at times taken for one that has done it all
    with pytest.raises(GraphError, match="refuses the task"):
        client.execute("open the drawer")  # one at a time by the action
    client.set_task(instruction)
    assert task.result(20).message == "replaced by set_task"
    client.wait_until(lambda: tracking(client), "motion")
    client.set_task("")
    client.wait_until(lambda: not tracking(client), "rest")


def test_the_policy_follows_words_without_a_planner(client: GraphClient):
    begun(client)
    action = ActionClient(client.node, RunPolicy, topics.RUN_POLICY)
    wanted = RunPolicy.Goal(instruction="close the drawer", time_limit=3.0)
    goal = client.wait(client.sent(action.send_goal_async, wanted), "a goal")
    assert goal.accepted
    result = client.wait(client.sent(goal.get_result_async), "the end", 20).result
    assert result.success and result.chunks >= 4 and result.message == "time is up"
    action.destroy()


def test_a_scene_that_does_not_exist_is_refused(client: GraphClient):
    with pytest.raises(GraphError, match="unknown task 'juggle'"):
        client.reset_episode(0, "juggle")
    with pytest.raises(GraphError, match="unknown split"):
        client.reset_episode(0, "single", "test")


def test_without_arming_nothing_is_begun(client: GraphClient):
    begun(client)
    client.disarm()
    refused = client.execute("close the drawer").result(20)
    assert not refused.success and "not armed: disarmed" in refused.message
