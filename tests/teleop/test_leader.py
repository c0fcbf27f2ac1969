from typing import Any

import numpy as np
import pytest
from robots import APART, SIX

from emu_robot.errors import ConfigError, InvalidValueError, ShapeError
from emu_robot.robots.deployment import read_deployment
from emu_robot.teleop.driving import TeleopConfig
from emu_robot.teleop.leader import LeaderArm

ROBOT = read_deployment("so101")
NAMES = ROBOT.dimension_names
assert ROBOT.gripper is not None
LOWER, UPPER = ROBOT.gripper.closed, ROBOT.gripper.open
REST = np.array([0.1, -0.5, 0.5, 0.2, 0.0, 0.5])
DT = 0.04


def leader_at(position: np.ndarray, **settings: Any) -> LeaderArm:
    """A leader of the robot's own kind, at a state (A,) of the robot."""
    leader = LeaderArm(ROBOT, TeleopConfig(**settings))
    heard(leader, position)
    return leader


def heard(leader: LeaderArm, position: np.ndarray) -> None:
    assert leader.on_leader(NAMES, [*position[:-1], LOWER + position[-1] * (UPPER - LOWER)])


def test_the_robot_catches_up_slowly_and_then_follows():
    goal = REST + np.array([0.2, 0, 0, 0, 0, 0])
    leader = leader_at(goal, catch_up=0.5)
    leader.start(REST)
    first = leader.step(REST, DT)
    assert first.position[0] == pytest.approx(REST[0] + 0.5 * DT)
    for _ in range(10):
        last = leader.step(REST, DT)
    np.testing.assert_allclose(last.position, goal)
    heard(leader, goal + np.array([0.06, 0, 0, 0, 0, 0]))  # 1.5 rad/s, less than the limit
    assert leader.step(REST, DT).position[0] == pytest.approx(goal[0] + 0.06)


def test_a_leader_far_away_is_refused_naming_the_joint():
    leader = leader_at(REST - np.array([0, 0, 0.8, 0, 0, 0]), max_jump=0.3)
    with pytest.raises(InvalidValueError, match=r"-0.80 rad from the robot's elbow_flex; bring it within 0.30 rad"):
        leader.start(REST)
    heard(leader, REST - np.array([0, 0, 0.25, 0, 0, 0]))
    leader.start(REST)


def test_a_leader_that_leaps_away_is_left_alone():
    leader = leader_at(REST)
    leader.start(REST)
    leader.step(REST, DT)
    heard(leader, REST + np.array([0, 0.9, 0, 0, 0, 0]))
    with pytest.raises(InvalidValueError, match="shoulder_lift"):
        leader.step(REST, DT)


def test_it_never_leads_faster_than_the_robot_may_move_nor_out_of_its_limits():
    leader = leader_at(REST)
    leader.start(REST)
    leader.step(REST, DT)
    heard(leader, REST + np.array([0.25, 0, 0, 0, 0, 0]))
    assert leader.step(REST, DT).position[0] == pytest.approx(REST[0] + ROBOT.limits.velocity[0] * DT)
    heard(leader, REST + 9)
    near_end = ROBOT.limits.upper - 0.1
    leader.start(near_end)
    for _ in range(50):
        last = leader.step(near_end, DT)
    np.testing.assert_allclose(last.position, ROBOT.limits.upper)


def test_a_resting_leader_gives_a_resting_robot():
    leader = leader_at(REST)
    leader.start(REST)
    for _ in range(30):
        last = leader.step(REST, DT)
    np.testing.assert_allclose(last.velocity, 0, atol=1e-6)


def test_other_names_scales_and_offsets():
    theirs = [f"l{i}" for i in range(6)]
    leader = LeaderArm(ROBOT, TeleopConfig(), names=theirs, scale=[-1, 1, 1, 1, 1, 1], offset=[0, 0.5, 0, 0, 0, 0])
    assert leader.on_leader([*theirs, "wheel"], [-0.1, -1.0, 0.5, 0.2, 0.0, LOWER, 77.0])
    assert not leader.on_leader(["wheel"], [0.0])
    leader.start(REST)
    for _ in range(30):
        last = leader.step(REST, DT)
    np.testing.assert_allclose(last.position, [*REST[:5], 0.0], atol=1e-9)


def test_what_is_wrong_with_a_leader_is_said():
    leader = LeaderArm(ROBOT, TeleopConfig())
    with pytest.raises(InvalidValueError, match="nothing heard"):
        leader.start(REST)
    with pytest.raises(InvalidValueError, match="elbow_flex not finite"):
        leader.on_leader(NAMES, [0, 0, np.nan, 0, 0, 0])
    with pytest.raises(ShapeError, match="5 positions"):
        leader.on_leader(NAMES, [0] * 5)
    with pytest.raises(ConfigError, match="needs 6 different joints"):
        LeaderArm(ROBOT, TeleopConfig(), names=["a", "b"])
    with pytest.raises(ConfigError, match="scale of the leader: one finite number for all joints, or 6"):
        LeaderArm(ROBOT, TeleopConfig(), scale=[1.0, 2.0])
    with pytest.raises(ConfigError, match="is 0"):
        LeaderArm(ROBOT, TeleopConfig(), scale=[0.0])


def test_a_robot_without_gripper_follows_a_leader_without_one():
    leader, goal = LeaderArm(SIX, TeleopConfig()), np.array([0.1, 0.0, 0.0, 0.0, 0.0, -0.1])
    assert leader.on_leader(SIX.joints.names, goal.tolist())
    leader.start(np.zeros(6))
    for _ in range(30):
        last = leader.step(np.zeros(6), DT)
    np.testing.assert_allclose(last.position, goal)
    assert last.actions.shape[1] == 6
    with pytest.raises(ConfigError, match=r"needs 6 different joints, for base, .*, wrist_3; got .*'grip'"):
        LeaderArm(SIX, TeleopConfig(), names=[*"abcdef", "grip"])


def test_a_leader_s_hand_may_come_in_a_message_of_its_own():
    leader = LeaderArm(APART, TeleopConfig())
    assert not leader.on_leader(APART.joints.names, [0.0] * 6)
    leader.on_leader(["finger"], [0.01])
    assert leader.on_leader(APART.joints.names, [0.0] * 6)
    leader.start(np.array([*[0.0] * 6, 0.25]))
    assert leader.step(np.zeros(7), DT).position[6] == pytest.approx(0.25)
