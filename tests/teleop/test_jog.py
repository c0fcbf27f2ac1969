from typing import Any

import numpy as np
import pytest
from robots import SIX

from emu_robot.errors import ConfigError, InvalidValueError, UnknownNameError
from emu_robot.robots.deployment import read_deployment
from emu_robot.teleop.driving import Motion, TeleopConfig
from emu_robot.teleop.jog import Axis, Jogger, default_groups, read_groups

ROBOT = read_deployment("panda_sim")
NAMES, LIMITS = ROBOT.joints.names, ROBOT.limits
HOME = np.array([0.0, -0.55, 0.0, -2.65, 0.0, 2.10, 0.785, 1.0])
NOTHING = [0] * 8
DT = 0.04


def jogger(**settings: Any) -> Jogger:
    found = Jogger(LIMITS, 7, default_groups(NAMES), TeleopConfig(**settings))
    found.on_pad(np.zeros(6).tolist(), NOTHING)
    found.start(HOME)
    return found


def pad(jog: Jogger, axes: dict[int, float], *buttons: int) -> None:
    jog.on_pad([axes.get(i, 0.0) for i in range(6)], [int(i in buttons) for i in range(8)])


def steps(jog: Jogger, n: int, follows: bool = True) -> Motion:
    """The last of n motions of a robot that follows, or stays where it is."""
    measured = HOME
    for _ in range(n):
        motion = jog.step(measured, DT)
        measured = motion.position if follows else HOME
    return motion


def test_a_stick_turns_its_joint_at_a_share_of_its_limit():
    jog = jogger(speed=0.2)
    pad(jog, {1: 1.0})
    motion = steps(jog, 25)
    assert motion.position[1] == pytest.approx(HOME[1] + 0.2 * LIMITS.velocity[1] * 25 * DT)
    assert motion.velocity[1] == pytest.approx(0.2 * LIMITS.velocity[1])
    assert np.abs(np.delete(motion.position - HOME, 1)).max() == 0


def test_the_dead_zone_is_dead_and_speed_begins_at_its_edge():
    jog = jogger(dead_zone=0.1)
    pad(jog, {0: 0.09, 3: -0.09})
    assert np.abs(steps(jog, 10).velocity).max() == 0
    pad(jog, {0: 0.11})
    assert 0 < steps(jog, 1).velocity[0] < 0.01


def test_the_shoulder_button_goes_over_to_the_other_joints_once_per_press():
    jog = jogger()
    for _ in range(3):
        pad(jog, {0: 1.0}, 4)
    assert jog.group == 1
    motion = steps(jog, 5)
    assert motion.velocity[4] > 0 and motion.velocity[0] == 0
    pad(jog, {})
    pad(jog, {}, 4)
    assert jog.group == 0


def test_a_blocked_joint_is_led_by_the_leash_only_and_a_limit_ends_the_motion():
    jog = jogger(leash=0.2)
    pad(jog, {0: 1.0})
    assert steps(jog, 200, follows=False).position[0] == pytest.approx(0.2)
    jog.start(HOME)
    motion = steps(jog, 1000)
    assert motion.position[0] == LIMITS.upper[0] and motion.velocity[0] == 0


def test_buttons_move_the_gripper_which_keeps_its_grip_over_a_release():
    jog = jogger()
    pad(jog, {}, 0)
    measured = HOME.copy()
    for _ in range(30):
        measured[7] = max(jog.step(measured, DT).position[7], 0.4)  # something is between its fingers
    pad(jog, {})
    jog.start(measured)
    assert jog.step(measured, DT).position[7] == 0.0
    measured[7] = 0.9  # somebody else has opened it since
    jog.start(measured)
    assert jog.step(measured, DT).position[7] == 0.9


def test_axes_that_are_missing_or_not_finite_are_refused():
    jog = jogger()
    with pytest.raises(InvalidValueError, match="the pad has 2 axes, axis 4 is in use"):
        jog.on_pad([0.0, 0.0], [])
    with pytest.raises(InvalidValueError, match="not finite"):
        jog.on_pad([np.nan] * 6, [])
    jog.on_pad([0.0] * 6, [])  # no buttons: none is down
    assert np.abs(steps(jog, 3).velocity).max() == 0


def test_groups_are_read_from_text():
    groups = read_groups(["joint1=0 joint2=-1", "joint7=+3"], NAMES)
    assert groups[0] == (Axis(joint=0, axis=0), Axis(joint=1, axis=1, sign=-1.0)) and groups[1][0].joint == 6
    jog = Jogger(LIMITS, 7, groups, TeleopConfig())
    jog.on_pad([0.0, 1.0, 0.0, 0.0], [])
    jog.start(HOME)
    assert steps(jog, 1).velocity[1] < 0
    with pytest.raises(UnknownNameError, match="unknown joint 'elbow'; known: joint1"):
        read_groups(["elbow=1"], NAMES)
    with pytest.raises(ConfigError, match="joint1:2"):
        read_groups(["joint1:2"], NAMES)


def test_an_arm_without_gripper_is_jogged_and_the_gripper_s_buttons_do_nothing():
    jog = Jogger(SIX.limits, SIX.n_joints, default_groups(SIX.joints.names), TeleopConfig(speed=0.2))
    pad(jog, {0: 1.0}, 0, 3)
    for _ in range(2):  # begun again, too
        jog.start(np.zeros(6))
        motion = jog.step(np.zeros(6), DT)
    assert motion.actions.shape[1] == 6
    np.testing.assert_allclose(motion.velocity, [0.2, 0, 0, 0, 0, 0])
