"""The released policy drives the simulated arm in a session; physics, pictures and gate are real, the clock is ours."""

import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from fake_arm import MemoryRecorder, tool_of

from emu_robot.cli.teleop import load_driving_policy
from emu_robot.control.safety import GateState
from emu_robot.core import PolicyEvent
from emu_robot.policy.emu_policy import EmuPolicy
from emu_robot.robots.pose import Pose
from emu_robot.teleop.autonomy import DAggerPhase
from emu_robot.teleop.desk import Desk, Order, OrderKind, Sample
from emu_robot.teleop.hand import Wish
from emu_robot.teleop.session import Session, SessionConfig
from emu_robot.teleop.thinking import Thinking
from emu_robot.teleop.view import View
from emu_sim.arm import TabletopArm
from emu_sim.environment import TabletopEnvironment

RATE = 20
SCENE = 1000


@pytest.fixture(scope="module")
def policy() -> EmuPolicy:
    made = load_driving_policy("mini")
    assert isinstance(made, EmuPolicy)
    return made


class Table:
    """A session at the simulated table. Each tick waits for its pictures, and the policy computes between two."""

    def __init__(self, arm: TabletopArm, policy: EmuPolicy) -> None:
        self.arm, self.desk, self.recorder, self.thinking = arm, Desk(), MemoryRecorder(), Thinking(policy)
        policy.seed(0)
        config = SessionConfig(rate_hz=RATE, countdown_s=0.0)
        self.session = Session(arm, self.desk, config, recorder=self.recorder, policy=self.thinking)
        self.now = 100.0
        self.session.lay_scene(SCENE, self.now)
        self.wish, self.pressed = Wish(), False
        self.commands: list[np.ndarray] = []
        self.view = self.run(10)

    def run(self, ticks: int = 1) -> View:
        for _ in range(ticks):
            self.now += 1 / RATE
            self.desk.drive("ann", Sample(at=self.now, pressed=self.pressed, wish=self.wish))
            self.view = self.session.tick(self.now)
            self.commands.append(self.view.position if self.session._sent is None else self.session._sent.copy())
            if self.session._sent is not None:
                self._wait_for_pictures()
            self.thinking.work()
        return self.view

    def order(self, kind: OrderKind, text: str = "") -> View:
        assert self.desk.order("ann", Order(kind=kind, text=text), self.now) == ""
        return self.run()

    def motion(self, begin: int) -> tuple[float, float]:
        """Largest speed and acceleration of the joints since a number of commands."""
        velocity = np.diff(np.array(self.commands[begin:])[:, :7], axis=0) * RATE
        return float(np.abs(velocity).max()), float(np.abs(np.diff(velocity, axis=0)).max() * RATE)

    def _wait_for_pictures(self) -> None:
        until = time.monotonic() + 60
        while (taken := self.arm.pictures()) is None or taken[1] < self.now - 1e-6:
            assert time.monotonic() < until, "no pictures"
            time.sleep(0.001)


@pytest.fixture
def table(policy: EmuPolicy) -> Iterator[Table]:
    with closing(TabletopEnvironment(families=("open_drawer",)).arm()) as arm:
        yield Table(arm, policy)


def test_the_released_policy_does_its_task_and_is_recorded_with_its_subtask(table: Table) -> None:
    table.order(OrderKind.START)
    table.order(OrderKind.PAUSE)
    for _ in range(400):
        if table.run().succeeds:
            break
    assert table.view.succeeds and table.view.policy is DAggerPhase.AUTONOMOUS
    speed, acceleration = table.motion(0)
    assert speed < table.arm.limits.velocity[:7].max() and acceleration < table.arm.limits.acceleration[:7].max() * 1.01
    table.order(OrderKind.SUCCESS)
    [(_, _, frames)] = table.recorder.episodes
    assert not any(frame.intervention for frame in frames)
    assert table.recorder.said[:2] == [("start", "open the drawer"), ("mark", "open the drawer")]


def test_taking_over_and_handing_back_never_jump(table: Table) -> None:
    table.order(OrderKind.START)
    table.order(OrderKind.PAUSE)
    table.run(20)
    assert table.view.gate is GateState.TRACKING
    usual, _ = table.motion(0)
    begin = len(table.commands)
    table.order(OrderKind.CORRECT)
    at = tool_of(table.view)
    goal = Pose(position=at.position + np.array([0.0, -0.03, 0.05]), rotation=at.rotation)
    table.wish, table.pressed = Wish(goal=goal), True
    view = table.run(30)
    assert view.policy is DAggerPhase.CORRECTING and view.is_driven
    assert np.linalg.norm(tool_of(view).position - goal.position) < 0.02
    fastest = 1.6 * SessionConfig().hand.joint_speed  # of the hand, and what the spline adds
    assert table.motion(begin - 3)[0] <= fastest, "a take-over is no faster than the hand ever is"
    begin = len(table.commands)
    table.order(OrderKind.PAUSE)
    table.pressed = False
    table.run(30)
    assert table.view.policy is DAggerPhase.AUTONOMOUS and table.view.gate is GateState.TRACKING
    assert table.motion(begin - 3)[0] < 1.5 * usual, "a hand-back starts like any start of the policy"
    table.order(OrderKind.SUCCESS)
    [(_, _, frames)] = table.recorder.episodes
    flags = np.array([frame.intervention for frame in frames])
    assert 20 < flags.sum() < 40 and not flags[:15].any() and not flags[-20:].any()
    steps = np.abs(np.diff([frame.action[:7] for frame in frames], axis=0)).max()
    assert steps < max(fastest, 1.5 * usual) / RATE, "the recorded commands have no jump either"


def test_a_typed_subtask_changes_what_the_policy_pursues_with_the_next_chunk(table: Table) -> None:
    table.order(OrderKind.PAUSE)
    table.run(20)
    assert table.view.subtasks[table.view.step] == "open the drawer"
    seen = table.thinking.policy
    assert isinstance(seen, EmuPolicy)
    table.order(OrderKind.SUBTASK, "put the red can in the drawer")
    table.run(2)
    assert seen._task is not None and seen._task.step is not None
    assert seen._task.step.subtask == "put the red can in the drawer" and seen._task.step.subgoal is not None
    assert table.view.subtasks[-1] == "put the red can in the drawer"
    table.order(OrderKind.SUBTASK, "")
    table.run(2)
    assert seen._task.step.subtask == "open the drawer"


def test_a_subtask_in_a_persons_words_holds_until_it_is_reached(policy: EmuPolicy) -> None:
    policy.seed(0)
    with closing(TabletopEnvironment(families=("open_drawer",))) as world:
        observation = world.reset(SCENE)
        policy.reset("open the drawer")
        policy.act(observation)
        policy.coach("open the drawer wide")
        first = policy.act(observation)
        assert first.step is not None and first.step.subtask == "open the drawer wide"
        assert PolicyEvent.PLANNED in first.events
        for _ in range(60):
            chunk = policy.act(observation)  # nothing changes: the step times out, and the planner is asked
            assert chunk.step is not None
            if PolicyEvent.TIMEOUT in chunk.events or PolicyEvent.SWITCHED in chunk.events:
                break
        assert chunk.step is not None and chunk.step.subtask == "open the drawer"
