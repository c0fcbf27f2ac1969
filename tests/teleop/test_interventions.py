"""A policy drives in a session, and a person takes over, corrects it and hands back; the clock is the test's."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from fake_arm import JOINTS, MemoryRecorder
from walking_policy import SPEED, PicturedArm, WalkingPolicy

from emu_robot.control.policy_process import PolicyProcess
from emu_robot.control.safety import GateState
from emu_robot.core import Floats
from emu_robot.errors import ConfigError, EmuRobotError
from emu_robot.teleop.autonomy import AutonomyConfig, DAggerPhase
from emu_robot.teleop.desk import Desk, Order, OrderKind, Sample
from emu_robot.teleop.hand import Wish
from emu_robot.teleop.loop import Loop
from emu_robot.teleop.session import Session, SessionConfig
from emu_robot.teleop.thinking import Thinking, ThinkingThread
from emu_robot.teleop.view import View

DT = 1 / 30
AUTONOMOUS, PAUSED, CORRECTING = DAggerPhase.AUTONOMOUS, DAggerPhase.PAUSED, DAggerPhase.CORRECTING
BACK = Wish(linear=np.array([-1.0, 0.0, 0.0]))


class Rig:
    """A session with a policy that computes between two ticks; `computes`: whether it does."""

    def __init__(self, policy: WalkingPolicy | None = None, arm: PicturedArm | None = None, **settings: Any) -> None:
        self.arm, self.desk, self.recorder = arm or PicturedArm(), Desk(), MemoryRecorder()
        self.policy = policy or WalkingPolicy()
        self.thinking, self.computes = Thinking(self.policy), True
        config = SessionConfig(countdown_s=0.0, **settings)
        self.session = Session(self.arm, self.desk, config, recorder=self.recorder, policy=self.thinking)
        self.now = 100.0
        self.session.lay_scene(7, self.now)
        self.wish, self.pressed = Wish(), False
        self.view = self.run(15)

    def run(self, ticks: int = 1) -> View:
        for _ in range(ticks):
            self.now += DT
            self.desk.drive("ann", Sample(at=self.now, pressed=self.pressed, wish=self.wish))
            self.view = self.session.tick(self.now)
            if self.computes:
                self.thinking.work()
        return self.view

    def hold(self, wish: Wish, ticks: int) -> View:
        self.wish, self.pressed = wish, True
        return self.run(ticks)

    def release(self, ticks: int = 1) -> View:
        self.pressed = False
        return self.run(ticks)

    def order(self, kind: OrderKind, text: str = "") -> View:
        assert self.desk.order("ann", Order(kind=kind, text=text), self.now) == ""
        return self.run()

    def go(self, ticks: int = 60) -> View:
        """Let the policy drive."""
        self.order(OrderKind.PAUSE)
        return self.run(ticks)

    def motion(self, ticks: int) -> tuple[float, float]:
        """Largest speed and acceleration of the joints over the last ticks."""
        commands = np.array(self.arm.commands[-ticks:])[:, :-1]
        velocity = np.diff(commands, axis=0) / DT
        return float(np.abs(velocity).max()), float(np.abs(np.diff(velocity, axis=0)).max() / DT)


def test_the_policy_drives_only_after_a_person_lets_it_and_a_pause_holds() -> None:
    rig = Rig()
    assert (rig.view.policy, rig.arm.position[0]) == (PAUSED, 0.0)
    view = rig.go(90)
    assert (view.policy, view.gate, view.reason) == (AUTONOMOUS, GateState.TRACKING, "")
    assert rig.arm.position[0] == pytest.approx(3 * SPEED, rel=0.25)
    rig.order(OrderKind.PAUSE)
    rig.run(3)
    there = rig.arm.position.copy()
    assert rig.run(60).policy is PAUSED and rig.view.gate is GateState.HOLDING
    np.testing.assert_allclose(rig.arm.position, there, atol=1e-3)
    rig.go(30)
    assert rig.arm.position[0] > there[0] + 0.1


class DegreesArm(PicturedArm):
    """Its driver counts degrees the other way round, and the gripper in percent."""

    factor = np.array([-180 / np.pi] * JOINTS + [100.0])

    def to_own(self, position: Floats) -> Floats:
        return position * self.factor

    def from_own(self, values: Floats) -> Floats:
        return values / self.factor


def test_a_policy_sees_and_commands_an_arm_in_the_numbers_of_its_driver() -> None:
    arm = DegreesArm()
    policy = WalkingPolicy(speed=-SPEED * 180 / np.pi)
    policy.grip = 40.0
    rig = Rig(policy, arm)
    view = rig.go(90)
    assert (view.policy, view.gate, view.reason) == (AUTONOMOUS, GateState.TRACKING, "")
    assert arm.position[0] == pytest.approx(3 * SPEED, rel=0.25)
    assert arm.position[-1] == pytest.approx(0.4, abs=0.02)
    np.testing.assert_allclose(arm.position[1:-1], 0.0, atol=1e-6)
    first, last = policy.seen[0], policy.seen[-1]
    assert first[-1] == pytest.approx(100.0, abs=1.0)
    assert last[0] == pytest.approx(arm.to_own(arm.position)[0], rel=0.25) and last[0] < -20


def test_pressing_the_deadman_takes_over_without_a_jump_and_the_policy_does_not_go_on_by_itself() -> None:
    rig = Rig()
    rig.go(60)
    there = rig.arm.position[0]
    view = rig.hold(BACK, 15)
    assert view.policy is PAUSED and view.is_driven
    speed, acceleration = rig.motion(25)
    assert speed < 0.3 and acceleration < 12  # the gate's own limits are 4 and 40
    assert np.diff(np.array(rig.arm.commands)[-15:, 0]).max() < SPEED * DT * 1.3
    rig.hold(BACK, 30)
    assert rig.arm.position[0] < there - 0.05
    assert rig.release(60).policy is PAUSED and rig.view.gate is GateState.HOLDING


def test_taking_over_by_its_key_holds_and_the_hand_starts_where_the_arm_is() -> None:
    rig = Rig()
    rig.go(60)
    view = rig.order(OrderKind.TAKE)
    assert view.policy is PAUSED and "you have the arm" in view.said
    rig.run(15)
    there = rig.arm.position.copy()
    rig.hold(Wish(), 15)
    np.testing.assert_allclose(rig.arm.position[:6], there[:6], atol=2e-3)


def test_a_gripper_that_the_policy_closed_stays_closed_when_a_person_takes_over() -> None:
    rig = Rig()
    rig.policy.grip = 0.0
    rig.go(60)
    rig.arm.position[-1] = 0.4  # an object is between the fingers
    rig.hold(BACK, 1)
    rig.arm.position[-1] = 0.4
    rig.hold(BACK, 10)
    assert np.array(rig.arm.commands)[-10:, -1].max() < 0.01


def test_handing_back_plans_from_the_present_picture_without_a_jump_though_the_deadman_is_held() -> None:
    rig = Rig()
    rig.go(60)
    rig.hold(BACK, 45)
    seen = len(rig.policy.seen)
    view = rig.order(OrderKind.PAUSE)
    assert view.policy is AUTONOMOUS
    there = rig.arm.position.copy()
    assert rig.run(30).policy is AUTONOMOUS, "a deadman that is still held takes nothing over"
    assert rig.policy.heard[-1] == ("coach", "")
    np.testing.assert_allclose(rig.policy.seen[seen][:6], there[:6], atol=0.02)
    speed, acceleration = rig.motion(40)
    assert speed < 0.45 and acceleration < 12
    rig.release(5)
    assert rig.hold(BACK, 5).policy is PAUSED, "a new press does"


def test_corrections_are_recorded_with_what_the_policy_wanted_and_pauses_are_not() -> None:
    rig = Rig()
    rig.order(OrderKind.START)
    rig.go(20)
    rig.order(OrderKind.CORRECT)
    assert rig.view.policy is CORRECTING
    rig.run(30)  # nobody moves it
    rig.hold(BACK, 30)
    rig.release(20)
    rig.order(OrderKind.CORRECT)
    assert rig.view.policy is PAUSED
    rig.hold(BACK, 20)  # an arm that is moved in a pause is not a correction
    rig.release(10)
    rig.go(20)
    rig.order(OrderKind.SUCCESS)
    [(_, _, frames)] = rig.recorder.episodes
    flags = np.array([frame.intervention for frame in frames])
    begins, ends = np.flatnonzero(np.diff(flags.astype(int))) + 1
    assert 17 <= begins <= 22 and 28 <= ends - begins <= 40 and 18 <= len(flags) - ends <= 23
    moved = np.diff([frame.action[0] for frame in frames[begins + 5 : ends - 5]])
    assert (moved < 0).all(), "the operator's way, not the policy's"
    marks = [words for kind, words in rig.recorder.said if kind == "mark"]
    assert marks[0] == "open it" and set(marks) <= {"open it", "close it"}


def test_a_correction_can_begin_at_once_while_the_policy_drives() -> None:
    rig = Rig()
    rig.go(30)
    assert rig.order(OrderKind.CORRECT).policy is CORRECTING
    assert rig.hold(BACK, 20).is_driven
    assert rig.order(OrderKind.PAUSE).policy is AUTONOMOUS


def test_a_typed_subtask_is_followed_within_a_chunk_recorded_and_given_back_when_it_is_reached() -> None:
    rig = Rig(WalkingPolicy(lasts=6))
    rig.order(OrderKind.START)
    rig.go(20)
    view = rig.order(OrderKind.SUBTASK, "nudge the cube")
    assert view.coached == "nudge the cube" and view.subtasks[-1] == "nudge the cube"
    rig.run(2)
    assert rig.policy.heard[-1] == ("coach", "nudge the cube")
    assert rig.session.autonomy is not None and rig.session.autonomy.subtask == "nudge the cube"
    rig.run(90)
    assert rig.view.coached == "" and rig.view.subtasks[-1] in ("open it", "close it")
    marks = [words for kind, words in rig.recorder.said if kind == "mark"]
    at = marks.index("nudge the cube")
    assert at > 0 and len(marks) > at + 1
    rig.order(OrderKind.SUBTASK, "wave")
    rig.order(OrderKind.SUBTASK, "")
    assert rig.run(3).coached == "" and rig.policy.heard[-1] == ("coach", "")


def test_a_subtask_that_is_typed_in_a_pause_is_pursued_when_the_policy_goes_on() -> None:
    rig = Rig()
    rig.order(OrderKind.NEXT, "nudge the cube")
    assert rig.view.coached == "nudge the cube" and rig.policy.heard[-1][0] == "reset"
    rig.go(5)
    assert rig.policy.heard[-1] == ("coach", "nudge the cube")


def test_a_policy_that_raises_holds_the_arm_and_says_so() -> None:
    rig = Rig()
    rig.go(60)
    rig.policy.fails = "the planner has no idea"
    view = rig.run(20)
    assert view.policy is PAUSED and "the planner has no idea" in view.said
    rig.run(10)
    assert rig.view.gate is GateState.HOLDING and rig.motion(5)[0] == 0
    rig.policy.fails = ""
    rig.go(30)
    assert rig.view.policy is AUTONOMOUS and rig.view.gate is GateState.TRACKING


def test_a_policy_that_stalls_holds_the_arm_says_so_and_is_paused_in_the_end() -> None:
    rig = Rig(autonomy=AutonomyConfig(patience_s=3.0))
    rig.go(60)
    rig.computes = False
    view = rig.run(45)
    assert view.policy is AUTONOMOUS and "has computed for" in view.reason
    assert view.gate is GateState.HOLDING and rig.motion(5)[0] == 0
    view = rig.run(60)
    assert view.policy is PAUSED and "has computed one chunk for 3 s" in view.said
    rig.computes = True
    there = rig.arm.position.copy()
    rig.run(30)
    np.testing.assert_allclose(rig.arm.position, there, atol=1e-3)


def test_an_answer_to_old_pictures_moves_nothing() -> None:
    rig = Rig()
    rig.go(60)
    rig.computes = False
    rig.run(30)
    there = rig.arm.position.copy()
    rig.thinking.work()  # answers what it was asked a second ago
    rig.run(3)
    np.testing.assert_allclose(rig.arm.position, there, atol=5e-3)


def test_cameras_that_stand_still_hold_the_arm() -> None:
    rig = Rig()
    rig.go(60)
    rig.arm.frozen = True
    assert rig.run(60).gate is GateState.HOLDING


def test_a_stop_pauses_the_policy_and_resuming_the_arm_does_not_resume_it() -> None:
    rig = Rig()
    rig.go(30)
    assert rig.desk.order("bob", Order(kind=OrderKind.STOP), rig.now) == ""
    assert rig.run(10).policy is PAUSED and rig.view.gate is GateState.FAULT
    assert "resume it first" in rig.order(OrderKind.PAUSE).said
    rig.order(OrderKind.RESUME)
    assert rig.run(30).policy is PAUSED and rig.motion(20)[0] == 0


def test_another_scene_and_another_task_pause_the_policy_and_begin_an_episode_of_it() -> None:
    rig = Rig()
    rig.go(20)
    assert rig.order(OrderKind.SCENE).policy is PAUSED
    assert rig.policy.heard[-1] == ("reset", "task 8")
    rig.order(OrderKind.TASK, "tidy up")
    assert rig.policy.heard[-1] == ("reset", "tidy up")


def test_a_thread_that_computes_never_delays_a_tick() -> None:
    policy = WalkingPolicy()
    policy.sleeps_s = 0.5
    rig = Rig(policy)
    rig.computes = False  # the thread does
    rig.session = Session(rig.arm, rig.desk, SessionConfig(countdown_s=0.0), policy=ThinkingThread(policy))
    rig.session.lay_scene(7, rig.now)
    rig.run(15)
    begun = time.monotonic()
    rig.go(5)
    assert rig.view.policy is AUTONOMOUS and time.monotonic() - begun < 0.4
    while not policy.seen:
        time.sleep(0.02)


def test_a_session_without_a_policy_says_so_and_another_arms_policy_is_refused() -> None:
    rig = Rig()
    rig.session = Session(rig.arm, rig.desk, SessionConfig())
    rig.session.lay_scene(7, rig.now)
    assert rig.order(OrderKind.PAUSE).policy is None
    assert "policy=mini" in rig.view.said
    policy = WalkingPolicy()
    policy.action_names = ("x", "y")
    with pytest.raises(ConfigError, match="the policy commands x, y; portal has joint0"):
        Session(rig.arm, rig.desk, SessionConfig(), policy=Thinking(policy))


def broken_policy() -> WalkingPolicy:
    raise ConfigError("no such weights")


def test_a_policy_whose_process_is_killed_or_stopped_is_held_and_the_loop_goes_on() -> None:
    arm, desk = PicturedArm(), Desk()
    with closing(PolicyProcess(WalkingPolicy)) as policy:
        config = SessionConfig(autonomy=AutonomyConfig(patience_s=1.0))
        session = Session(arm, desk, config, policy=ThinkingThread(policy))
        session.lay_scene(7, time.monotonic())
        loop = Loop(session, 30)
        loop.start()
        try:
            _wait(lambda: loop.view is not None and loop.view.gate.is_armed)
            desk.order("ann", Order(kind=OrderKind.PAUSE), time.monotonic())
            _wait(lambda: arm.position[0] > 0.1)
            assert policy.process.pid is not None
            os.kill(policy.process.pid, signal.SIGSTOP)
            _wait(lambda: loop.view is not None and "has computed one chunk for 1 s" in loop.view.said)
            os.kill(policy.process.pid, signal.SIGCONT)
            moved = arm.position[0]
            desk.order("ann", Order(kind=OrderKind.PAUSE), time.monotonic())
            _wait(lambda: arm.position[0] > moved + 0.1)
            policy.process.kill()
            _wait(lambda: loop.view is not None and "the policy's process has ended" in loop.view.said)
            there, commands = arm.position.copy(), len(arm.commands)
            _wait(lambda: len(arm.commands) > commands + 20)
            np.testing.assert_allclose(arm.position, there, atol=0.02)
            assert loop.is_running and loop.view is not None and loop.view.policy is PAUSED
        finally:
            loop.stop()


def test_what_a_process_cannot_load_or_do_is_its_error_here() -> None:
    with pytest.raises(EmuRobotError, match="no such weights"):
        PolicyProcess(broken_policy)
    with closing(PolicyProcess(WalkingPolicy)) as policy:
        assert (policy.control_hz, policy.image_size, policy.cameras) == (20, 8, ("front",))
        policy.reset("tidy up")
        with pytest.raises(EmuRobotError, match="AttributeError"):
            policy.act("no observation")  # pyright: ignore[reportArgumentType]
        policy.coach("wave")


def _wait(until: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not until():
        assert time.monotonic() < ends
        time.sleep(0.01)
