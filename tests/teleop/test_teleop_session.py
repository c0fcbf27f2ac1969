"""A session from the desk to the arm, with a clock that the test moves, and the real safety gate."""

from typing import Any

import numpy as np
import pytest
from fake_arm import FakeArm, MemoryRecorder, target_of, tool_of

from emu_robot.control.safety import GateState
from emu_robot.robots.pose import Pose, turned
from emu_robot.teleop.desk import Desk, Order, OrderKind, Sample
from emu_robot.teleop.episodes import Phase
from emu_robot.teleop.hand import HandConfig, Wish
from emu_robot.teleop.session import Session, SessionConfig
from emu_robot.teleop.view import View

DT = 1 / 30
FORWARD = Wish(linear=np.array([1.0, 0.0, 0.0]))


class Rig:
    """A session, and an operator who sends at every tick what `wish` and `pressed` say; None: nothing."""

    def __init__(self, share: float = 1.0, **settings: Any) -> None:
        self.arm, self.desk, self.recorder = FakeArm(share), Desk(), MemoryRecorder()
        config = SessionConfig(countdown_s=0.0, **settings)
        self.session = Session(self.arm, self.desk, config, recorder=self.recorder, seed=7)
        self.now = 100.0
        self.session.lay_scene(7, self.now)
        self.wish, self.pressed = Wish(), None
        self.view = self.run(15)

    def run(self, ticks: int = 1) -> View:
        for _ in range(ticks):
            self.now += DT
            if self.pressed is not None:
                self.desk.drive("ann", Sample(at=self.now, pressed=self.pressed, wish=self.wish))
            self.view = self.session.tick(self.now)
        return self.view

    def hold(self, wish: Wish, ticks: int = 30) -> View:
        self.wish, self.pressed = wish, True
        return self.run(ticks)

    def order(self, kind: OrderKind, text: str = "") -> View:
        assert self.desk.order("ann", Order(kind=kind, text=text), self.now) == ""
        return self.run()

    def speeds(self, ticks: int) -> np.ndarray:
        """Speed (ticks,) of the fastest dimension of the last commands [1/s]."""
        return np.abs(np.diff(self.arm.commands[-ticks - 1 :], axis=0)).max(axis=1) / DT


def test_nothing_moves_before_the_deadman_is_held() -> None:
    rig = Rig()
    start = rig.arm.position
    rig.wish, rig.pressed = FORWARD, False
    assert rig.run(30).reason == "not pressed"
    assert (rig.arm.position == start).all()


def test_a_held_key_moves_the_tool_at_its_speed_and_a_release_holds_within_100_ms() -> None:
    rig = Rig()
    rig.hold(FORWARD, 10)
    before = tool_of(rig.view).position
    after = tool_of(rig.hold(FORWARD, 30)).position
    np.testing.assert_allclose(after - before, [0.1, 0, 0], atol=0.004)
    rig.pressed = False
    rig.run(3)
    assert rig.view.gate is GateState.HOLDING
    rig.run(3)
    assert rig.speeds(3).max() == 0


def test_a_device_that_falls_silent_holds_within_the_watchdog_and_must_be_released_first() -> None:
    rig = Rig()
    rig.hold(FORWARD)
    rig.pressed = None
    rig.run(round(0.15 / DT) + 3)
    assert rig.view.gate is GateState.HOLDING and rig.speeds(2).max() == 0
    rig.hold(FORWARD, 10)
    assert "release it first" in rig.view.reason and rig.speeds(5).max() == 0
    rig.pressed = False
    rig.run(2)
    assert rig.hold(FORWARD, 10).is_driven


def test_pressing_again_never_jumps_although_the_arm_lags_and_a_goal_is_far() -> None:
    rig = Rig(share=0.3)
    goal = Wish(goal=Pose(position=np.array([0.3, -0.3, 0.3]), rotation=np.eye(3)))
    for _ in range(4):
        rig.hold(goal, 12)
        rig.pressed = False
        rig.run(11)
    steps = np.abs(np.diff(rig.arm.commands, axis=0))[:, :3].max()
    assert 0 < steps <= 0.25 * DT * 1.6  # the speed on the way to a goal, and what the spline adds


def test_a_goal_is_reached_within_two_millimetres_also_turned() -> None:
    rig = Rig()
    goal = Pose(position=np.array([0.2, 0.1, -0.1]), rotation=turned(np.array([0, 0, 0.7])))
    view = rig.hold(Wish(goal=goal), 90)
    step, turn = tool_of(view).way_to(goal)
    assert np.linalg.norm(step) < 0.002 and np.linalg.norm(turn) < 0.01


def test_a_target_leads_an_arm_that_is_stuck_by_at_most_the_leash() -> None:
    rig = Rig(hand=HandConfig(leash_m=0.03))
    rig.arm.share = 0.0
    stuck = tool_of(rig.view).position
    view = rig.hold(FORWARD, 60)
    assert 0.02 < np.linalg.norm(target_of(view).position - stuck) <= 0.0301
    assert np.abs(rig.arm.commands[-1][:3] - stuck).max() <= 0.04


def test_a_target_that_the_joints_cannot_reach_does_not_run_away() -> None:
    rig = Rig(hand=HandConfig(linear_speed=0.5))
    rig.hold(FORWARD, 150)
    assert tool_of(rig.view).position[0] == pytest.approx(1.0, abs=0.01)
    rig.hold(Wish(linear=np.array([-1.0, 0, 0])), 9)
    assert tool_of(rig.view).position[0] < 0.97


def test_home_is_slow_and_only_while_held() -> None:
    rig = Rig()
    rig.hold(FORWARD, 60)
    there = tool_of(rig.view).position[0]
    rig.hold(Wish(goes_home=True), 6)
    rig.pressed = False
    rig.run(10)
    assert 0 < tool_of(rig.view).position[0] < there
    rig.hold(Wish(goes_home=True), 60)
    np.testing.assert_allclose(rig.arm.position[:6], 0, atol=1e-3)
    assert rig.speeds(55).max() < 0.6


def test_the_gripper_moves_only_while_the_deadman_is_held_and_keeps_its_grip() -> None:
    rig = Rig()
    rig.order(OrderKind.GRIPPER)
    assert rig.run(20).position[-1] == 1.0 and "deadman" in rig.view.said
    rig.hold(Wish(), 3)
    rig.order(OrderKind.GRIPPER)
    assert rig.run(30).position[-1] == pytest.approx(0, abs=1e-3)
    rig.pressed = False
    rig.run(10)
    assert rig.hold(FORWARD, 20).position[-1] == pytest.approx(0, abs=1e-3)


def test_one_operator_at_a_time_and_anyone_stops() -> None:
    rig = Rig()
    rig.hold(FORWARD)
    assert "ann has the arm" in rig.desk.drive("bob", Sample(at=rig.now, pressed=True, wish=FORWARD))
    assert "ann has the arm" in rig.desk.order("bob", Order(kind=OrderKind.SCENE), rig.now)
    assert rig.view.operator == "ann"
    assert rig.desk.order("bob", Order(kind=OrderKind.STOP), rig.now) == ""
    rig.run(5)
    assert rig.view.gate is GateState.FAULT and rig.speeds(2).max() == 0
    rig.order(OrderKind.RESUME)
    assert rig.run(10).reason == "release the deadman first" and rig.speeds(5).max() == 0
    rig.pressed = False
    rig.run(2)
    assert rig.hold(FORWARD, 10).is_driven
    rig.desk.leave("ann", rig.now)
    rig.pressed = None
    rig.run(5)
    assert rig.view.operator is None and rig.view.gate is GateState.HOLDING
    assert rig.desk.drive("bob", Sample(at=rig.now, pressed=True, wish=FORWARD)) == ""
    assert rig.run(2).operator == "bob"


def test_a_silent_operator_frees_the_desk() -> None:
    rig = Rig()
    rig.hold(FORWARD)
    rig.pressed = None
    assert rig.run(60).operator == "ann"
    assert rig.run(60).operator is None


def test_an_arm_without_fresh_states_holds() -> None:
    rig = Rig()
    rig.hold(FORWARD)
    rig.arm.connected = False
    rig.run(8)
    assert not rig.view.is_driven and rig.speeds(2).max() == 0


def test_an_episode_is_recorded_with_what_was_sent_marked_and_ended() -> None:
    rig = Rig()
    assert rig.order(OrderKind.START).phase is Phase.RECORDING
    rig.hold(FORWARD, 20)
    rig.order(OrderKind.NEXT)
    rig.order(OrderKind.FLAG, "odd light")
    rig.run(7)
    sent = rig.arm.commands[-30:]
    rig.order(OrderKind.FAILURE, "dropped")
    assert rig.recorder.said == [
        ("start", "task 7"),
        ("mark", "open it"),
        ("mark", "close it"),
        ("flag", "odd light"),
    ]
    [(outcome, cause, frames)] = rig.recorder.episodes
    assert (outcome, cause, len(frames)) == ("failure", "dropped", 30)
    np.testing.assert_allclose([frame.action for frame in frames], sent, atol=1e-6)
    np.testing.assert_allclose(np.diff([frame.stamp_s for frame in frames]), DT, atol=1e-6)
    assert rig.arm.scenes == [7, 8] and rig.view.phase is Phase.IDLE


def test_a_discarded_episode_is_forgotten_and_its_scene_laid_again() -> None:
    rig = Rig()
    rig.order(OrderKind.START)
    rig.run(5)
    rig.order(OrderKind.DISCARD)
    assert rig.recorder.episodes == [] and rig.arm.scenes == [7, 7]


def test_what_keeps_an_episode_from_starting_is_said_and_control_goes_on_when_the_disk_is_full() -> None:
    rig = Rig()
    rig.recorder.problems = ["camera front is black"]
    assert "camera front is black" in rig.order(OrderKind.START).said
    rig.recorder.problems = []
    rig.order(OrderKind.START)
    rig.hold(FORWARD, 5)
    rig.recorder.fails = True
    view = rig.hold(FORWARD, 10)
    assert view.phase is Phase.IDLE and "the disk is full" in view.said and view.is_driven
