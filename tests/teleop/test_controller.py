"""Poses of a headset's controller as samples of an operator's device."""

from typing import Any

import numpy as np
import pytest

from emu_robot.errors import InvalidValueError
from emu_robot.robots.pose import Pose, turn_of, turned
from emu_robot.teleop.controller import Controller, read_pose
from emu_robot.teleop.smoothing import PoseFilter

TOOL = Pose(position=np.array([0.4, 0.1, 0.3]), rotation=turned(np.array([np.pi, 0.0, 0.0])))
DT = 1 / 60


def at(*position: float, turn: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Pose:
    return Pose(position=np.array(position), rotation=turned(np.array(turn)))


def test_each_hold_counts_from_where_controller_and_arm_are() -> None:
    controller = Controller()
    for start in (at(0.1, 1.2, 0.3), at(-0.4, 0.9, 0.0, turn=(0.5, 0.2, 0.0))):
        for i in range(60):
            moved = start.moved(
                np.array([0.1, 0.0, -0.05]) * min(i / 30, 1), np.array([0.0, 0.0, 0.3]) * min(i / 30, 1)
            )
            sample = controller.hold(moved, TOOL, 1.0 + i * DT, grip=-1.0, number=i)
        assert sample.pressed and sample.at == 1.0 + 59 * DT and sample.number == 59 and sample.wish.grip == -1.0
        assert sample.wish.goal is not None
        step, turn = TOOL.way_to(sample.wish.goal)
        np.testing.assert_allclose(step, [0.1, 0.0, -0.05], atol=1e-3)
        np.testing.assert_allclose(turn, [0.0, 0.0, 0.3], atol=0.01)
        controller.let_go(2.0)
        first = controller.hold(at(0.0, 0.0, 0.0), TOOL, 2.0, grip=0.0, number=0)
        assert first.wish.goal is not None and np.abs(first.wish.goal.position - TOOL.position).max() < 1e-12
        controller.let_go(2.1)


def test_a_pose_is_read_along_the_axes_of_the_base() -> None:
    half = 0.3 / 2
    message = {"hand": [0.1, 0.2, 0.3, np.sin(half), 0.0, 0.0, np.cos(half)]}  # turned about the operator's right
    pose = read_pose(message, faces_arm=True)
    assert pose is not None
    np.testing.assert_allclose(pose.position, [-0.2, 0.1, 0.3])
    np.testing.assert_allclose(turn_of(pose.rotation), [0.0, 0.3, 0.0], atol=1e-12)
    behind = read_pose(message, faces_arm=False)
    assert behind is not None
    np.testing.assert_allclose(behind.position, [0.2, -0.1, 0.3])
    np.testing.assert_allclose(turn_of(behind.rotation), [0.0, -0.3, 0.0], atol=1e-12)
    assert read_pose({}, faces_arm=True) is None


@pytest.mark.parametrize(
    "hand",
    [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1.5],
        [0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, True],
        [float("nan"), 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 1e300, 1e300, 0, 1],
        "here",
        {"x": 1},
    ],
)
def test_what_is_no_pose_is_refused(hand: Any) -> None:
    with pytest.raises(InvalidValueError, match="hand"):
        read_pose({"hand": hand}, faces_arm=True)


def test_a_controller_at_no_place_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="within 10 m"):
        Controller().hold(at(1e300, 0.0, 0.0), TOOL, 1.0, grip=0.0, number=0)


def test_a_hand_that_trembles_is_calmed_and_one_that_moves_is_not_late() -> None:
    random, still = np.random.default_rng(0), PoseFilter(at(0.0, 0.0, 0.0), 0.0)
    poses = [at(*random.normal(0, 5e-4, 3), turn=tuple(random.normal(0, 5e-3, 3))) for _ in range(300)]
    shown = [still.smooth(pose, (i + 1) * DT) for i, pose in enumerate(poses)][60:]
    assert np.std([pose.position for pose in shown]) < 2.5e-4
    assert np.std([turn_of(pose.rotation) for pose in shown]) < 2.5e-3
    moving, speed = PoseFilter(at(0.0, 0.0, 0.0), 0.0), 0.25
    for i in range(1, 61):
        pose = moving.smooth(at(speed * i * DT, 0.0, 0.0), i * DT)
    assert 0 < speed * 60 * DT - pose.position[0] < 0.025 * speed  # s
    for i in range(61, 121):
        pose = moving.smooth(at(speed * 60 * DT, 0.0, 0.0), i * DT)
    assert abs(pose.position[0] - speed * 60 * DT) < 1e-3


def test_messages_that_come_at_once_leave_the_filter_finite() -> None:
    still = PoseFilter(at(0.0, 0.0, 0.0), 1.0)
    for _ in range(5):
        pose = still.smooth(at(0.1, 0.0, 0.0, turn=(0.0, 0.0, 3.0)), 1.0)
    assert np.isfinite(pose.position).all() and 0 < pose.position[0] <= 0.1
