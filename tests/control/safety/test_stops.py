"""What moves after a stop, and what does not: each row is a fault that once moved an arm."""

from collections.abc import Callable

import numpy as np
import pytest
from gate_rig import DT, LIMITS, A, J, Rig, braking_distance, check_limits

from emu_robot.control.safety import GateState
from emu_robot.errors import InvalidValueError

STOPS: dict[str, Callable[[Rig], object]] = {
    "estop": lambda rig: rig.gate.estop("a test"),
    "fault": lambda rig: rig.gate.fault("a test"),
    "disarm": lambda rig: rig.gate.disarm(rig.now),
    "idle": lambda rig: rig.gate.on_idle(1, rig.now),
    "silence": lambda rig: setattr(rig, "alive", False),
    "stale": lambda rig: setattr(rig, "sensed", False),
    "wrong chunk": lambda rig: rig.offer(actions=np.full((3, A), np.nan)),
}


@pytest.mark.parametrize("lag", [0, 5])
@pytest.mark.parametrize("stop", STOPS)
def test_every_stop_brakes_along_the_way_and_does_not_turn_back(stop: str, lag: int):
    rig = Rig().armed(-0.9)
    rig.follows = False
    rig.offer(0.9, actions=np.linspace([-0.9, 0, 0], [0.9, 0, 0], 20))
    for _ in range(22):
        rig.position = rig.commands[max(len(rig.commands) - 1 - lag, 0)].position  # a robot that lags behind
        rig.run(DT)
    n, speed = len(rig.commands), rig.commands[-1].velocity
    assert speed[0] > 1.0
    STOPS[stop](rig)
    if stop in ("silence", "stale"):
        while rig.gate.state is GateState.TRACKING:
            n, speed = len(rig.commands), rig.commands[-1].velocity
            rig.run(DT)
    rig.run(1.0)
    path = rig.path(n - 1)
    assert np.all(np.diff(path) >= 0), "it turned back"
    assert path[-1] - path[0] <= braking_distance(speed)[0]
    assert rig.commands[-1].velocity.any() == np.False_
    check_limits(rig.commands, rig.sent)


def test_disarming_in_motion_comes_to_rest_before_commands_end():
    rig = Rig().armed(-0.9).moving()
    n = len(rig.commands)
    rig.gate.disarm(rig.now)
    assert rig.gate.is_commanding and rig.offer() is not None
    rig.run(1.0)
    assert rig.gate.state is GateState.DISARMED and not rig.gate.is_commanding
    assert n < len(rig.commands) < n + 20 and not rig.commands[-1].velocity.any()


@pytest.mark.parametrize("value", [50.0, -50.0, 1e300, 0.5, np.inf, np.nan])
def test_one_wrong_joint_state_in_motion_changes_nothing(value: float):
    rig, honest = Rig().armed(-0.9).moving(), Rig().armed(-0.9).moving()
    glitch = rig.position.copy()
    glitch[0] = value
    assert not rig.gate.on_state(glitch, rig.now + 0.001)
    rig.run(0.5)
    honest.run(0.5)
    assert rig.gate.state is GateState.TRACKING
    np.testing.assert_array_equal(rig.path(), honest.path())


@pytest.mark.parametrize("state", [GateState.HOLDING, GateState.TRACKING, GateState.FAULT, GateState.ESTOP])
@pytest.mark.parametrize("lie", [0.0, 50.0, 1.0])
def test_a_second_publisher_of_other_joint_states_moves_nothing(state: GateState, lie: float):
    rig = Rig().armed(-0.9)
    if state is GateState.TRACKING:
        rig.moving(0.9, 0.3)
    elif state is GateState.FAULT:
        rig.gate.fault("a test")
    elif state is GateState.ESTOP:
        rig.gate.estop("a test")
    n, speed = len(rig.commands), rig.commands[-1].velocity
    for _ in range(50):
        rig.gate.on_state(np.full(A, lie), rig.now + 0.005)
        rig.run(DT)
    assert rig.gate.state in (GateState.FAULT, GateState.ESTOP)
    assert rig.path(n - 1)[-1] - rig.path(n - 1)[0] <= braking_distance(speed)[0] + 5 * 2.0 * DT
    assert np.all(np.diff(rig.path(n - 1)) >= 0)
    assert "two publishers" in rig.gate.measured.refusal or "outside" in rig.gate.measured.refusal


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ([90.0, 0.0, 0.0], r"j1 is at 90 rad.*outside \[-1, 1\]"),
        ([45.0, 0.0, 0.0], "in degrees"),
        ([1e300, 0.0, 0.0], "outside"),
        ([1.3, 0.0, 0.0], "j1 is at 1.3 rad"),
        ([1.05, 0.0, 0.0], "move it inside first"),
        ([0.0, np.nan, 0.0], "not finite"),
        ([0.0, 0.0, 7.0], "grip is 7 open"),
    ],
)
def test_a_robot_that_is_not_where_it_may_be_is_not_armed(told: list[float], why: str):
    rig = Rig()
    rig.position = np.array(told)
    rig.watch()
    with pytest.raises(InvalidValueError, match=why):
        rig.gate.arm(rig.now)
    rig.run(0.2)
    assert rig.commands == []


def test_contradicting_or_moving_states_are_not_armed_upon():
    rig = Rig()
    rig.position = np.array([-0.6, 0.0, 0.0])
    for _ in range(20):
        rig.now += DT
        rig.gate.on_state(rig.position, rig.now)
        rig.gate.on_state(np.zeros(A), rig.now + 0.001)
    with pytest.raises(InvalidValueError, match="two publishers"):
        rig.gate.arm(rig.now)
    rig.now += 1.1
    for _ in range(20):
        rig.now += DT
        rig.position = rig.position + np.array([0.01, 0.0, 0.0])
        rig.gate.on_state(rig.position, rig.now)
    with pytest.raises(InvalidValueError, match="the robot moves: j1"):
        rig.gate.arm(rig.now)
    rig.watch()
    rig.gate.arm(rig.now)


def test_at_its_limit_a_robot_can_be_armed():
    rig = Rig().armed(1.005)
    assert rig.commands[0].position[0] == 1.0 and rig.commands[0].velocity[0] == 0


@pytest.mark.parametrize("state", [GateState.HOLDING, GateState.FAULT, GateState.ESTOP])
@pytest.mark.parametrize("pushed", [0.3, -0.45, 0.9])
def test_a_robot_moved_by_hand_is_not_pulled_back(state: GateState, pushed: float):
    rig = Rig().armed(0.0)
    if state is GateState.FAULT:
        rig.gate.fault("a test")
    elif state is GateState.ESTOP:
        rig.gate.estop("a test")
    rig.follows = False
    for part in np.linspace(0, pushed, 20):
        rig.position = np.array([part, 0.0, 0.0])
        rig.run(DT)
    rig.run(0.4)
    n = len(rig.commands)
    assert np.ptp(rig.path()) == 0  # never pushed after it either
    rig.run(1.0)
    assert len(rig.commands) == n and not rig.gate.is_commanding
    assert rig.gate.state is (GateState.ESTOP if state is GateState.ESTOP else GateState.FAULT)
    assert "no commands until reset" in rig.gate.reason
    rig.gate.estop("later")
    rig.run(0.2)
    assert len(rig.commands) == n
    rig.gate.reset(rig.now)
    rig.gate.arm(rig.now)
    rig.run(DT)
    assert rig.commands[-1].position[0] == pytest.approx(pushed)


def test_sag_and_noise_are_not_being_moved():
    rig = Rig().armed(0.0)
    rig.follows = False
    rng = np.random.default_rng(0)
    for _ in range(200):
        rig.position = np.array([-0.1, 0.02, 0.0]) + rng.normal(0, 0.005, A)
        rig.run(DT)
    assert rig.gate.state is GateState.HOLDING and rig.gate.is_commanding and np.ptp(rig.path()) == 0


def test_after_a_fault_a_robot_that_stayed_keeps_its_command():
    rig = Rig().armed(0.0).moving(0.5)
    rig.gate.fault("a test")
    rig.run(0.5)
    place, rig.follows = rig.path()[-1], False
    rig.position = rig.position - [0.05, 0.0, 0.0]  # sag
    rig.run(0.3)
    rig.gate.reset(rig.now)
    rig.run(0.2)
    assert rig.path()[-1] == place


@pytest.mark.parametrize("gap", [0.12, 0.5, 3.0])
def test_a_gate_that_stood_still_starts_from_rest_where_the_robot_is(gap: float):
    rig = Rig(max_chunk_age_s=5.0, heartbeat_timeout_s=2.0).armed(-0.9)
    rig.offer(0.9, actions=np.linspace([-0.9, 0, 0], [0.9, 0, 0], 20))
    rig.run(0.4)
    n = len(rig.commands)
    stopped = rig.position.copy()
    rig.now += gap
    rig.tick()
    assert len(rig.commands) == n  # not before the robot's position is known again
    rig.run(0.1)
    assert rig.gate.state is not GateState.TRACKING
    assert np.abs(rig.path(n) - stopped[0]).max() == 0
    assert f"stood still for {gap:.2f} s" in rig.gate.reason


def test_a_late_tick_does_not_make_up_for_the_time():
    rig = Rig(max_chunk_age_s=2.0).armed(-0.9)
    rig.offer(0.9, actions=np.linspace([-0.9, 0, 0], [0.9, 0, 0], 20))
    rng = np.random.default_rng(0)
    for _ in range(200):
        rig.now += float(rng.choice([0.001, 0.0005, 0.02, 0.019, 0.022, 0.06, 0.0]))
        rig.gate.on_state(rig.position, rig.now)
        rig.gate.on_heartbeat(1, rig.now)
        rig.tick()
    check_limits(rig.commands, rig.sent)


HUGE = 1.7e308


@pytest.mark.parametrize("grips", [[-HUGE, -HUGE, HUGE, HUGE], [HUGE, -HUGE, HUGE, -HUGE], [9, 9, 9, 9]])
def test_huge_gripper_values_never_reach_the_gripper(grips: list[float]):
    rig = Rig().armed()
    actions = np.zeros((4, A))
    actions[:, -1] = grips
    assert rig.offer(actions=actions) is not None
    rig.run(0.3)
    assert rig.offer(0.1) is None
    rig.run(0.3)
    check_limits(rig.commands, rig.sent)
    overshoot = np.zeros((4, A))
    overshoot[:, -1] = [0.9, 1.1, 1.2, -0.1]
    assert rig.offer(actions=overshoot) is None


def test_arming_says_nothing_to_the_gripper_until_a_chunk_does():
    rig = Rig().armed()
    rig.run(0.2)
    assert not any(command.moves_gripper for command in rig.commands)
    rig.offer(0.1)
    rig.run(0.1)
    assert rig.commands[-1].moves_gripper


def test_stale_is_no_longer_said_once_states_are_fresh():
    rig = Rig().armed()
    rig.sensed = False
    rig.run(0.3)
    assert rig.gate.reason == "joint states are stale"
    rig.sensed = True
    rig.run(0.1)
    assert rig.gate.state is GateState.HOLDING and rig.gate.reason == "joint states are back, no chunk yet"


def test_a_stop_needs_no_joint_states():
    rig = Rig().armed(-0.9).moving(0.9, 0.3)
    rig.sensed, rig.follows, n = False, False, len(rig.commands)
    rig.gate.estop("a test")
    rig.run(1.0)
    assert np.all(np.diff(rig.path(n - 1)) >= 0) and not rig.commands[-1].velocity.any()
    assert (rig.commands[-1].position[:J] <= LIMITS.upper[:J]).all()
