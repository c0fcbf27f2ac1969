"""The rules by which an arm follows a leader in a session."""

import numpy as np
import pytest

from emu_robot.errors import InvalidValueError
from emu_robot.robots.limits import MotionLimits
from emu_robot.teleop.leader_hand import AFTER, START, LeaderHand

LIMITS = MotionLimits(
    lower=np.array([-2.0, -2.0, 0.0]),
    upper=np.array([2.0, 2.0, 1.0]),
    velocity=np.array([3.0, 3.0, 2.0]),
    acceleration=np.full(3, 40.0),
)
REST = np.array([0.1, -0.2, 0.5])
DT = 1 / 30


def hand_at(position: np.ndarray) -> LeaderHand:
    hand = LeaderHand(["pan", "lift"], LIMITS)
    hand.on_leader(position)
    return hand


def follow(hand: LeaderHand, seconds: float, dt: float = DT, away: float = 0.0) -> np.ndarray:
    """The targets (T, 3) while the arm is `away` from them in its second joint."""
    targets, at = [], REST
    for _ in range(round(seconds / dt)):
        at = hand.step(at + np.array([0.0, away, 0.0]), dt).position
        targets.append(at)
    return np.array(targets)


def test_a_leader_farther_than_the_start_allows_is_refused_by_name() -> None:
    hand = hand_at(REST + np.array([0.0, START + 0.05, 0.0]))
    with pytest.raises(InvalidValueError, match=r"\+0.85 rad from the robot's lift; bring it within 0.80 rad"):
        hand.start(REST)
    hand.on_leader(REST + np.array([0.0, START - 0.05, 0.5]))  # its gripper may be anywhere
    hand.start(REST)


@pytest.mark.parametrize("dt", [DT, 0.2])
def test_the_arm_catches_up_in_small_steps_and_then_follows_at_full_speed(dt: float) -> None:
    goal = REST + np.array([0.6, -0.6, 0.0])
    hand = hand_at(goal)
    hand.start(REST)
    targets = follow(hand, 4.0, dt)
    assert np.abs(np.diff(np.vstack([REST, targets]), axis=0)).max() <= 0.05 + 1e-9
    np.testing.assert_allclose(targets[-1], goal, atol=1e-9)
    hand.on_leader(goal + np.array([0.09, 0.0, 0.0]))
    assert hand.step(goal, DT).position[0] == pytest.approx(goal[0] + 0.09)  # 2.7 rad/s


def test_after_that_a_leader_that_leaps_is_left_alone() -> None:
    hand = hand_at(REST)
    hand.start(REST)
    hand.step(REST, DT)
    hand.on_leader(REST + np.array([AFTER + 0.02, 0.0, 0.0]))
    with pytest.raises(InvalidValueError, match=r"\+0.52 rad from the robot's pan; bring it within 0.50 rad"):
        hand.step(REST, DT)


def test_pressing_again_starts_where_the_arm_is() -> None:
    hand = hand_at(REST)
    hand.start(REST)
    follow(hand, 1.0)
    hand.on_leader(REST + np.array([0.4, 0.0, 0.0]))
    sunk = REST + np.array([0.05, 0.1, 0.0])
    hand.start(sunk)
    assert np.abs(hand.step(sunk, DT).position - sunk).max() <= 0.5 * DT + 1e-9


def test_a_lasting_distance_between_a_resting_leader_and_its_arm_is_told() -> None:
    hand = hand_at(REST)
    hand.start(REST)
    follow(hand, 0.9, away=-0.2)
    assert hand.note == ""
    follow(hand, 0.3, away=-0.2)
    assert hand.note == "lift stays -0.20 rad from the leader's: compare the two calibrations"
    follow(hand, 0.1)
    assert hand.note == ""


def test_nothing_heard_and_the_gripper_s_key_are_said() -> None:
    hand = LeaderHand(["pan", "lift"], LIMITS)
    with pytest.raises(InvalidValueError, match="nothing heard"):
        hand.start(REST)
    assert "own gripper" in hand.toggle_gripper()
