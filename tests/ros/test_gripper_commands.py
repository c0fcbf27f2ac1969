"""Grippers commanded by messages and by goals, with real nodes in place of their drivers."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import running
from control_msgs.action import FollowJointTrajectory, GripperCommand
from rclpy.action import ActionClient, ActionServer, GoalResponse
from rclpy.action.server import ServerGoalHandle
from spun_graph import Graph
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from emu_robot.errors import SystemSetupError
from emu_robot.robots.deployment import Gripper
from emu_robot_ros.gripper_commands import GOAL_PERIOD_S, GoalThrottle, gripper_commands

DT = 0.02
FRANKA = Gripper(joint="finger", closed=0.0, open=0.04, topic="/gripper/gripper_action", kind="gripper_command")


def goals(wanted: np.ndarray) -> list[tuple[float, float]]:
    """(when, where) of the goals that a stream of positions, one per tick, leads to."""
    throttle, found = GoalThrottle(least_change=0.02, period=0.1), []
    for i, position in enumerate(wanted.tolist()):
        if throttle.is_due(position, i * DT):
            throttle.sent(position, i * DT)
            found.append((i * DT, position))
    return found


def test_a_gripper_at_rest_gets_no_goal():
    assert goals(np.full(200, 0.7)) == []


def test_goals_are_few_and_the_last_one_is_where_the_gripper_shall_be():
    closing = np.concatenate([np.ones(10), np.linspace(1, 0, 25), np.zeros(50)])
    found = goals(closing)
    assert 3 <= len(found) <= 7 and found[-1][1] == 0
    assert np.diff([when for when, _ in found]).min() >= 0.1 - 1e-9
    assert found[-1][0] <= (10 + 25) * DT + 0.1


def test_a_small_change_waits_until_the_stream_rests():
    creeping = np.concatenate([np.ones(5), 1 - np.linspace(0, 0.015, 30), np.full(20, 0.985)])
    (when, where), = goals(creeping)  # fmt: skip
    assert where == 0.985 and when >= 35 * DT


def test_a_refused_goal_is_due_again():
    throttle = GoalThrottle(least_change=0.02, period=0.1)
    assert not throttle.is_due(1.0, 0.0) and throttle.is_due(0.5, 0.02)
    throttle.sent(0.5, 0.02)
    assert not throttle.is_due(0.5, 0.2)
    throttle.refused()
    assert not throttle.is_due(0.5, 0.1) and throttle.is_due(0.5, 0.22)


class Driver:
    """Serves the action and notes the goals; takes them or not."""

    def __init__(self, graph: Graph) -> None:
        self.accepts, self.goals = True, list[tuple[float, float]]()
        node = graph.add("driver")
        ActionServer(node, GripperCommand, FRANKA.topic, self._execute, goal_callback=self._on_goal)

    def _on_goal(self, goal: GripperCommand.Goal) -> GoalResponse:
        self.goals.append((goal.command.position, goal.command.max_effort))
        return GoalResponse.ACCEPT if self.accepts else GoalResponse.REJECT

    def _execute(self, goal: ServerGoalHandle) -> GripperCommand.Result:
        goal.succeed()
        return GripperCommand.Result(reached_goal=True)


@pytest.fixture
def graph() -> Iterator[Graph]:
    found = Graph()
    yield found
    found.close()


def warnings(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    logger = graph.node.get_logger()
    monkeypatch.setattr(logger, "warning", lambda text, **_: said.append(text))
    monkeypatch.setattr(graph.node, "get_logger", lambda: logger)
    return said


def test_goals_carry_position_and_effort(graph: Graph):
    driver, commands = Driver(graph), gripper_commands(graph.node, FRANKA, period=DT, effort=30.0)
    for _ in range(10):
        commands.send(0.04, time.monotonic())
    graph.until(lambda: driver.goals, "a goal", lambda: commands.send(0.01, time.monotonic()))
    assert driver.goals == [(0.01, 30.0)], "where it is already is no goal"


def test_a_driver_that_is_missing_or_refuses_is_said_and_tried_again(graph: Graph, monkeypatch: pytest.MonkeyPatch):
    commands, said = gripper_commands(graph.node, FRANKA, period=DT, effort=0.0), warnings(graph, monkeypatch)

    def close() -> None:
        commands.send(0.0, time.monotonic())

    commands.send(0.04, time.monotonic())
    close()
    assert "is the gripper's driver running" in said[-1]
    driver = Driver(graph)
    driver.accepts = False
    graph.until(lambda: len(driver.goals) > 1 and "refused a goal" in said[-1], "two goals that are refused", close)
    driver.accepts = True
    n_goals = len(driver.goals)
    graph.until(lambda: len(driver.goals) > n_goals, "a goal that is taken", close)
    until = time.monotonic() + 5 * GOAL_PERIOD_S
    graph.until(lambda: time.monotonic() > until, "no more goals", close)
    assert len(driver.goals) == n_goals + 1


@pytest.mark.parametrize("kind", ["trajectory", "positions"])
def test_topics_carry_the_position(graph: Graph, kind: str):
    gripper = replace(FRANKA, kind=kind, topic="gripper_controller/commands")
    commands, heard = gripper_commands(graph.node, gripper, period=DT, effort=0.0), list[Any]()
    message = JointTrajectory if kind == "trajectory" else Float64MultiArray
    graph.add("driver").create_subscription(message, "gripper_controller/commands", heard.append, 1)
    graph.until(lambda: heard, "a command", lambda: commands.send(0.03, 0.0))
    assert list(heard[0].points[0].positions if kind == "trajectory" else heard[0].data) == [0.03]


def test_other_clients_are_rivals_and_oneself_is_not(graph: Graph):
    for _ in range(2):  # configured, cleaned up and configured again
        commands = gripper_commands(graph.node, FRANKA, period=DT, effort=0.0)
        graph.until(lambda: not commands.rivals(), "the client before to go")  # noqa: B023
        commands.destroy()
    commands = gripper_commands(graph.node, FRANKA, period=DT, effort=0.0)
    ActionClient(graph.add("other"), GripperCommand, FRANKA.topic)
    graph.until(commands.rivals, "the rival")
    assert f"{FRANKA.topic} has 2 clients (/left/other, /left/safety)" in commands.rivals()


def test_a_publisher_is_a_rival_and_so_is_who_moves_the_same_controller_by_action(graph: Graph):
    gripper = replace(FRANKA, kind="trajectory", topic="gripper_controller/joint_trajectory")
    commands, other = gripper_commands(graph.node, gripper, period=DT, effort=0.0), graph.add("other")
    assert commands.rivals() == ""
    ActionClient(other, FollowJointTrajectory, "gripper_controller/follow_joint_trajectory")
    said = "/left/gripper_controller/follow_joint_trajectory has 1 client (/left/other)"
    graph.until(lambda: commands.rivals().startswith(said), "the rival, with its name")
    other.create_publisher(JointTrajectory, gripper.topic, 1)
    graph.until(lambda: "2 publishers (/left/other, /left/safety)" in commands.rivals(), "the second rival")


def test_a_robot_without_a_gripper_has_nothing_to_command(graph: Graph):
    commands = gripper_commands(graph.node, None, period=DT, effort=0.0)
    commands.send(0.0, 0.0)
    assert commands.rivals() == ""
    commands.destroy()


def test_without_the_action_s_package_the_message_says_how_to_get_it(graph: Graph, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "control_msgs.action", None)
    with pytest.raises(SystemSetupError, match="apt install ros-jazzy-control-msgs"):
        gripper_commands(graph.node, FRANKA, period=DT, effort=0.0)


def test_the_gate_refuses_to_configure_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "control_msgs.py").touch()  # hides the package
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with running("emu_robot_ros.safety_node", "-p", "robot:=franka_fr3") as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode != 0 and "apt install ros-jazzy-control-msgs" in output
