"""Grippers commanded by messages and by goals. The action's package is not among the wheels: a stand-in takes goals."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import running

from emu_robot.deployment import Gripper
from emu_robot.errors import SystemSetupError
from emu_robot_ros import gripper_commands as module
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


class Answer:
    """A future that is done."""

    def __init__(self, accepted: bool) -> None:
        self._handle = SimpleNamespace(accepted=accepted)

    def add_done_callback(self, callback: Any) -> None:
        callback(self)

    def result(self) -> SimpleNamespace:
        return self._handle


class Driver:
    """In place of the action's client: a driver that is there or not, and takes goals or not."""

    def __init__(self) -> None:
        self.ready, self.accepts, self.goals = True, True, []

    def server_is_ready(self) -> bool:
        return self.ready

    def send_goal_async(self, goal: SimpleNamespace) -> Answer:
        self.goals.append((goal.command.position, goal.command.max_effort))
        return Answer(self.accepts)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    found, stand_in = Driver(), ModuleType("control_msgs.action")
    action = SimpleNamespace(Goal=lambda: SimpleNamespace(command=SimpleNamespace(position=0.0, max_effort=0.0)))
    stand_in.GripperCommand = action  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "control_msgs", ModuleType("control_msgs"))
    monkeypatch.setitem(sys.modules, "control_msgs.action", stand_in)
    monkeypatch.setattr(module, "ActionClient", lambda node, kind, name: found)
    return found


class Log:
    """A node as far as commands of this kind need one: its logger, and how many clients the action has."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.clients = 1

    def get_logger(self) -> "Log":
        return self

    def warning(self, text: str, **_: Any) -> None:
        self.said.append(text)

    def count_clients(self, name: str) -> int:
        assert name == "/gripper/gripper_action/_action/send_goal"
        return self.clients


def stream(commands: Any, positions: np.ndarray, start: float = 0.0) -> None:
    for i, position in enumerate(positions.tolist()):
        commands.send(position, start + i * DT)


def test_goals_carry_position_and_effort(driver: Driver):
    commands = gripper_commands(Log(), FRANKA, period=DT, effort=30.0)  # pyright: ignore[reportArgumentType]
    stream(commands, np.full(10, 0.04))
    assert driver.goals == []
    stream(commands, np.zeros(10), start=1.0)
    assert driver.goals == [(0.0, 30.0)]


def test_a_driver_that_is_missing_or_refuses_is_said_and_tried_again(driver: Driver):
    log = Log()
    commands = gripper_commands(log, FRANKA, period=DT, effort=0.0)  # pyright: ignore[reportArgumentType]
    driver.ready = False
    stream(commands, np.array([0.04, 0.0, 0.0]))
    assert driver.goals == [] and "is the gripper's driver running" in log.said[-1]
    driver.ready, driver.accepts = True, False
    stream(commands, np.zeros(2), start=1.0)
    assert len(driver.goals) == 1 and "refused a goal" in log.said[-1]
    driver.accepts = True
    stream(commands, np.zeros(20), start=1.0 + GOAL_PERIOD_S)
    assert len(driver.goals) == 2


def test_other_clients_are_rivals(driver: Driver):
    log = Log()
    commands = gripper_commands(log, FRANKA, period=DT, effort=0.0)  # pyright: ignore[reportArgumentType]
    assert commands.rivals() == ""
    log.clients = 2
    assert "has 2 clients" in commands.rivals()


def test_without_the_action_s_package_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "control_msgs.action", None)
    with pytest.raises(SystemSetupError, match="apt install ros-jazzy-control-msgs"):
        gripper_commands(Log(), FRANKA, period=DT, effort=0.0)  # pyright: ignore[reportArgumentType]


def test_the_gate_refuses_to_configure_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "control_msgs.py").touch()  # where the package is installed, this hides it
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with running("emu_robot_ros.safety_node", "-p", "robot:=franka_fr3") as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode != 0 and "apt install ros-jazzy-control-msgs" in output
