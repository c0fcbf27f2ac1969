"""The safety gate without any middleware: a clock that the test moves, chunks of every wrong kind."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate_rig import DT, LIMITS, NAMES, A, Rig

from emu_robot.control.safety import EstopLatch, GateState, Rejection, SafetyConfig
from emu_robot.errors import InvalidValueError, SystemSetupError
from emu_robot.shared.settings import field_docs


def test_it_says_nothing_until_it_is_armed_and_is_not_armed_blindly():
    rig = Rig()
    rig.run(0.1)
    assert rig.commands == [] and rig.offer() is Rejection.NOT_ARMED
    rig.sensed = False
    rig.now += 1
    with pytest.raises(InvalidValueError, match="no fresh joint state"):
        rig.gate.arm(rig.now)


def test_a_chunk_need_not_wait_for_the_tick_and_is_followed_as_if_it_had():
    places = []
    for early in (True, False):
        rig = Rig().armed()
        rig.now += 0.012
        assert rig.offer(0.2) is None
        if early:
            command = rig.gate.tick(rig.now)
            assert command is not None and command.state is GateState.TRACKING
            assert (np.abs(command.velocity) <= LIMITS.acceleration * 0.012).all()
            np.testing.assert_allclose(command.position, command.velocity * 0.012)
        else:
            rig.now -= 0.012
        rig.run(0.6)
        places.append(rig.commands[-1].position[0] - 0.2 * (rig.now - 100.28) / 0.95)
    assert places[0] == pytest.approx(places[1], abs=1e-3)


def test_a_chunk_is_executed_and_then_the_robot_holds_where_it_is():
    rig = Rig().armed()
    assert rig.offer(0.2) is None
    rig.run(0.9)
    assert rig.gate.state is GateState.TRACKING
    rig.run(0.5)
    assert rig.gate.state is GateState.HOLDING and rig.gate.reason == "no action left"
    assert rig.position[0] == pytest.approx(0.2, abs=0.01)
    assert np.ptp([command.position for command in rig.commands[-10:]], axis=0).max() < 1e-6


def test_no_fault_of_the_sender_ever_moves_the_robot():
    wrong: dict[Rejection, dict[str, Any]] = {
        Rejection.NAMES: {"names": NAMES[::-1]},
        Rejection.SHAPE: {"actions": np.zeros((5, A + 1))},
        Rejection.NOT_FINITE: {"actions": np.full((5, A), np.nan)},
        Rejection.FUTURE: {"captured": 101.5},
        Rejection.STALE: {"captured": 100.6},
        Rejection.TIMING: {"dt": 7.0},
        Rejection.JUMP: {"actions": np.tile([0.9, 0.0, 0.0], (5, 1))},
        Rejection.NO_DEADMAN: {"source": "teleop"},
        Rejection.BEFORE_RESET: {"captured": 99.99},
    }
    for reason, changes in wrong.items():
        rig = Rig(max_rejections=1000).armed()
        rig.run(1.0)
        assert rig.offer(**changes) is reason, changes
        rig.run(0.5)
        assert rig.gate.counts[f"chunk {reason.value}"] == 1
        assert np.ptp([command.position for command in rig.commands], axis=0).max() == 0, reason


@pytest.mark.parametrize(
    "names", [("j2", "j1", "grip"), ("j1", "j1", "j1"), (), NAMES[:2], (*NAMES, "j3"), ("J1", "j2", "grip")]
)
def test_names_tell_a_chunk_of_another_robot(names: tuple[str, ...]):
    rig = Rig().armed()
    assert rig.offer(names=NAMES) is None
    assert rig.offer(names=names) is Rejection.NAMES
    assert rig.gate.state is GateState.HOLDING


def test_infinities_in_any_place_are_refused():
    rng = np.random.default_rng(0)
    for value in (np.nan, np.inf, -np.inf):
        rig = Rig().armed()
        actions = np.zeros((8, A), np.float32)
        actions[rng.integers(8), rng.integers(A)] = value
        assert rig.offer(actions=actions) is Rejection.NOT_FINITE


def test_what_comes_twice_or_late_is_dropped_and_what_runs_goes_on():
    rig = Rig().armed()
    first, second = rig.chunk(0.1), rig.chunk(0.2)
    assert rig.gate.offer(second, rig.now) is None
    for again in (first, second):
        assert rig.gate.offer(again, rig.now) is Rejection.REORDERED
    rig.run(0.3)
    assert rig.gate.state is GateState.TRACKING


def test_a_wrong_chunk_stops_what_runs_and_several_are_a_fault():
    rig = Rig(max_rejections=3).armed()
    assert rig.offer() is None
    rig.run(0.2)
    assert rig.offer(actions=np.zeros((4, A + 2))) is Rejection.SHAPE
    assert rig.gate.state is GateState.HOLDING
    for _ in range(2):
        rig.offer(actions=np.zeros((4, A + 2)))
    assert rig.gate.state is GateState.FAULT
    rig.run(0.3)
    assert rig.offer() is Rejection.NOT_ARMED
    rig.gate.reset(rig.now)
    assert rig.offer(captured=rig.now - 0.1) is Rejection.BEFORE_RESET
    rig.run(DT)
    assert rig.offer() is None


def test_silence_of_the_policy_holds_within_its_timeout_and_a_new_chunk_goes_on():
    rig = Rig(heartbeat_timeout_s=0.15).armed()
    rig.offer(0.9)
    rig.run(0.2)
    rig.alive = False
    silent_since = rig.now
    while rig.gate.state is GateState.TRACKING:
        rig.run(DT)
    assert rig.now - silent_since <= 0.2 and rig.gate.reason == "the policy is silent"
    rig.alive = True
    rig.run(0.5)
    assert rig.gate.state is GateState.HOLDING
    assert rig.offer() is None


def test_stale_joint_states_hold_and_take_no_chunk():
    rig = Rig().armed()
    rig.offer()
    rig.sensed = False
    rig.run(0.2)
    assert rig.gate.state is GateState.HOLDING and rig.gate.reason == "joint states are stale"
    assert rig.offer() is Rejection.NO_STATE


@pytest.mark.parametrize("state", [np.full(A, np.nan), np.zeros(A + 1), np.array([0.0, np.inf, 0.0])])
def test_joint_states_that_cannot_be_are_not_believed(state: np.ndarray):
    rig = Rig().armed()
    assert not rig.gate.on_state(state, rig.now)
    assert rig.gate.counts["bad joint state"] == 1


def test_joint_states_from_the_future_are_not_believed_and_late_ones_are_as_old_as_they_are():
    rig = Rig().armed()
    assert not rig.gate.on_state(rig.position, rig.now, age=-1.0) and rig.gate.counts["bad joint state"] == 1
    assert not rig.gate.on_state(rig.position, rig.now, age=np.nan)
    rig.offer()
    rig.sensed = False
    for _ in range(30):
        rig.gate.on_state(rig.position, rig.now, age=0.3)
        rig.run(DT)
    assert rig.gate.diagnostics(rig.now)["age of joint state [ms]"] == "320"
    assert rig.gate.state is GateState.HOLDING and rig.gate.reason == "joint states are stale"


def test_a_driver_that_is_gone_is_a_fault_and_a_reset_holds_where_the_robot_is_by_then():
    rig = Rig(driver_timeout_s=1.0).armed()
    rig.offer(0.2)
    rig.run(0.5)
    rig.sensed = False
    rig.run(1.1)
    assert rig.gate.state is GateState.FAULT and rig.gate.reason == "the robot's driver is silent"
    rig.sensed, rig.follows = True, False
    rig.position = np.array([-0.8, 0.3, 1.0])
    rig.run(0.1)
    with pytest.raises(InvalidValueError, match="cannot reset: joint states are heard since 0.08 s only"):
        rig.gate.reset(rig.now)
    rig.run(0.2)
    rig.gate.reset(rig.now)
    rig.run(0.5)
    assert rig.gate.state is GateState.HOLDING
    np.testing.assert_allclose(rig.commands[-1].position[:2], rig.position[:2], atol=1e-9)


def test_nothing_is_reset_while_the_robot_still_slows_down():
    rig = Rig().armed()
    rig.offer(0.9)
    rig.run(0.5)
    rig.gate.fault("test")
    rig.run(DT)
    with pytest.raises(InvalidValueError, match="still coming to rest"):
        rig.gate.reset(rig.now)
    rig.run(0.5)
    rig.gate.reset(rig.now)


def test_a_gripper_that_holds_something_goes_on_squeezing_while_the_arm_holds():
    rig = Rig().armed()
    closing = np.zeros((20, A))
    closing[:, 2] = np.linspace(0.8, 0.2, 20)
    rig.offer(actions=closing)
    rig.follows = False
    for _ in range(60):
        rig.position = np.maximum(rig.commands[-1].position, [-9, -9, 0.5])  # something is between its fingers
        rig.run(DT)
    assert rig.gate.reason == "no action left"
    assert rig.commands[-1].position[2] == pytest.approx(0.2, abs=0.01)


def test_a_robot_that_does_not_follow_is_a_fault():
    rig = Rig(max_tracking_error=0.1).armed()
    rig.follows = False
    rig.offer(0.9)
    rig.run(1.0)
    assert rig.gate.state is GateState.FAULT and "does not follow" in rig.gate.reason


def test_a_second_session_is_refused_until_a_person_hands_over():
    rig = Rig().armed()
    rig.offer()
    rig.run(0.1)
    assert rig.offer(session=2) is Rejection.OTHER_SESSION
    assert rig.gate.state is GateState.TRACKING
    rig.alive = False
    rig.run(0.5)
    assert rig.offer(session=2, sequence=1) is Rejection.OTHER_SESSION
    assert rig.gate.state is GateState.HOLDING and "disarm and arm to hand over" in rig.gate.reason
    rig.gate.disarm(rig.now)
    rig.gate.arm(rig.now)
    rig.run(DT)
    assert rig.offer(session=2, sequence=1) is None


def test_an_operator_takes_over_from_a_policy_which_does_not_go_on_by_itself():
    rig = Rig().armed()
    rig.offer(0.5)
    rig.run(0.2)
    rig.gate.on_deadman(True, rig.now)
    assert rig.offer(0.5, session=9, sequence=1, source="teleop") is None
    rig.run(DT)
    assert rig.offer(0.5) is Rejection.OTHER_SESSION
    rig.gate.on_idle(9, rig.now)
    rig.run(DT)
    assert rig.offer(0.5) is Rejection.OTHER_SESSION  # it was not asked to go on
    rig.gate.on_idle(1, rig.now)
    rig.run(DT)
    assert rig.offer(0.5) is None  # its task had ended, this is another one


@pytest.mark.parametrize("source", ["TELEOP", "", "hacker", "policy ", "Policy"])
def test_sources_that_are_not_on_the_list_are_refused_and_what_runs_goes_on(source: str):
    rig = Rig().armed()
    rig.offer(0.5)
    rig.run(0.1)
    rig.gate.on_deadman(True, rig.now)
    assert rig.offer(0.5, source=source) is Rejection.SOURCE
    assert rig.gate.state is GateState.TRACKING


def test_a_policy_that_says_it_stopped_is_held_at_once_and_gives_the_robot_free():
    rig = Rig().armed()
    sent_before = rig.chunk(0.9, captured=rig.now + 0.15, sequence=50)
    rig.offer(0.9)
    rig.run(0.2)
    rig.gate.on_idle(2, rig.now)
    assert rig.gate.state is GateState.TRACKING  # somebody else idles
    rig.gate.on_idle(1, rig.now)
    assert rig.gate.state is GateState.HOLDING and rig.gate.reason == "the policy stopped"
    rig.run(DT)
    assert rig.gate.offer(sent_before, rig.now) is Rejection.BEFORE_RESET  # what was under way starts nothing again
    assert rig.offer(session=2, sequence=1) is None


def test_idle_heartbeats_keep_no_claim():
    rig = Rig().armed()
    rig.offer(0.1)
    rig.run(2.0)
    assert rig.gate.reason == "no action left"
    assert rig.offer(session=2) is Rejection.OTHER_SESSION
    rig.gate.on_idle(1, rig.now)
    assert rig.gate.reason == "no action left"
    rig.run(DT)
    assert rig.offer(session=2) is None


def test_teleoperation_runs_only_while_its_deadman_is_pressed():
    rig = Rig().armed()
    rig.gate.on_deadman(True, rig.now)
    assert rig.offer(0.5, source="teleop") is None
    for _ in range(10):
        rig.gate.on_deadman(True, rig.now)
        rig.run(DT)
    assert rig.gate.state is GateState.TRACKING
    rig.gate.on_deadman(False, rig.now)
    rig.run(2 * DT)
    assert rig.gate.state is GateState.HOLDING and rig.gate.reason == "deadman released"


def test_an_emergency_stop_holds_at_once_survives_a_restart_and_forgets_what_was_sent(tmp_path: Path):
    path = tmp_path / "robot" / "estop"
    rig = Rig(EstopLatch(path)).armed()
    rig.offer(0.9)
    rig.run(0.3)
    buffered = rig.chunk(0.9)
    rig.gate.estop("operator")
    rig.run(0.5)
    assert {command.state for command in rig.commands[-25:]} == {GateState.ESTOP}
    assert np.ptp([command.position for command in rig.commands[-5:]], axis=0).max() < 1e-6
    assert rig.gate.offer(buffered, rig.now) is Rejection.NOT_ARMED

    rig.gate.close()
    again = Rig(EstopLatch(path))
    assert again.gate.state is GateState.ESTOP and again.gate.reason == "operator"
    again.run(0.1)
    assert again.commands == []
    with pytest.raises(InvalidValueError, match="cannot arm: estop"):
        again.gate.arm(again.now)
    again.gate.reset(again.now)
    assert again.gate.state is GateState.DISARMED and not path.exists()
    again.watch()
    again.gate.arm(again.now)
    assert again.offer(captured=again.now - 0.01) is Rejection.BEFORE_RESET


def test_a_stop_after_disarming_does_not_pull_the_robot_back():
    rig = Rig().armed()
    rig.offer(0.2)
    rig.run(1.5)
    rig.gate.disarm(rig.now)
    rig.position, n_commands = np.array([-0.5, 0.5, 0.0]), len(rig.commands)
    rig.run(0.1)
    rig.gate.estop("operator")
    rig.run(0.1)
    assert rig.gate.state is GateState.ESTOP and len(rig.commands) == n_commands


def test_a_stop_that_cannot_be_kept_stops_all_the_same(tmp_path: Path):
    path = tmp_path / "gone" / "estop"
    rig = Rig(EstopLatch(path)).armed()
    rig.offer(0.9)
    rig.run(0.2)
    shutil.rmtree(path.parent)
    with pytest.raises(InvalidValueError, match="stopped, but not over a restart"):
        rig.gate.estop("operator")
    assert rig.gate.state is GateState.ESTOP and rig.gate.reason == "operator"


def test_a_place_that_cannot_keep_a_stop_is_said_at_the_start(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemSetupError, match="cannot keep an emergency stop"):
        EstopLatch(tmp_path / "file" / "estop")


def test_resetting_needs_to_know_where_the_robot_is():
    rig = Rig().armed()
    rig.gate.estop("")
    rig.now += 5
    with pytest.raises(InvalidValueError, match="no fresh joint state"):
        rig.gate.reset(rig.now)
    with pytest.raises(InvalidValueError, match="nothing to reset"):
        Rig().gate.reset(100.0)


def test_every_parameter_is_described_and_bounded():
    docs = field_docs(SafetyConfig)
    for name, parameter in SafetyConfig.__dataclass_fields__.items():
        low, high = parameter.metadata["low"], parameter.metadata["high"]
        assert low <= parameter.default <= high and len(docs[name]) > 10
        for value in (high * 1.01 + 1, np.nan):
            changes: dict[str, Any] = {name: value}
            with pytest.raises(InvalidValueError, match=f"safety.{name} is"):
                SafetyConfig(**changes)


def test_diagnostics_say_state_reason_ages_and_counts():
    rig = Rig().armed()
    rig.run(0.1)
    rig.offer(captured=rig.now - 0.05)
    rig.offer(dt=9.0)
    found = rig.gate.diagnostics(rig.now)
    assert found["state"] == "holding" and found["reason"] == "chunk wrong time between actions"
    assert found["age of the last chunk's observation when it came [ms]"] == "50"
    assert found["age of joint state [ms]"] == "0" and found["chunk wrong time between actions"] == "1"
