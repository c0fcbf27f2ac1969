"""Nodes of the whole graph that stand still; each test has a graph of its own, which is not used any further."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import LATE_S
from test_graph import Graph, begun, running_graph, tracking

from emu_robot_ros.client import GraphClient


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with running_graph(tmp_path) as nodes:
        yield nodes


@pytest.fixture
def client(graph: Graph) -> Iterator[GraphClient]:
    with GraphClient() as made:
        made.wait_for_graph()
        yield made


def test_a_planner_that_stands_still_is_held(graph: Graph, client: GraphClient):
    task = client.execute(begun(client), 60.0)
    client.wait_until(lambda: tracking(client), "motion")
    os.killpg(graph["planner"].pid, signal.SIGSTOP)
    assert client.wait_until(lambda: not tracking(client), "hold", 5) < LATE_S
    os.killpg(graph["planner"].pid, signal.SIGCONT)
    client.wait_until(lambda: tracking(client), "motion again")
    task.cancel()
    task.result(20)


def test_a_policy_that_stands_still_is_held_and_the_task_given_up(graph: Graph, client: GraphClient):
    task = client.execute(begun(client), 60.0)
    client.wait_until(lambda: tracking(client), "motion")
    os.killpg(graph["policy"].pid, signal.SIGSTOP)
    assert client.wait_until(lambda: not tracking(client), "hold", 5) < LATE_S
    result = task.result(20)
    assert not result.success and "no policy" in result.message


def test_a_gate_that_stands_still_has_the_task_given_up(graph: Graph, client: GraphClient):
    task = client.execute(begun(client), 60.0)
    client.wait_until(lambda: tracking(client), "motion")
    os.killpg(graph["safety"].pid, signal.SIGSTOP)
    result = task.result(20)
    assert not result.success and "no safety gate" in result.message
