"""Turns and poses: every function with its inverse."""

import numpy as np
import pytest

from emu_robot.robots.pose import Pose, capped, turn_of, turned


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-4, 0.3, 2.0, 3.1, np.pi - 1e-7, np.pi])
def test_a_turn_comes_back_from_its_rotation(angle: float) -> None:
    rng = np.random.default_rng(int(angle * 1000))
    for _ in range(20):
        axis = rng.normal(size=3)
        turn = angle * axis / np.linalg.norm(axis)
        rotation = turned(turn)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(turned(turn_of(rotation)), rotation, atol=1e-6)


def test_the_way_to_a_pose_leads_there() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        a = Pose(position=rng.normal(size=3), rotation=turned(rng.normal(size=3)))
        b = Pose(position=rng.normal(size=3), rotation=turned(rng.normal(size=3)))
        there = a.moved(*a.way_to(b))
        np.testing.assert_allclose(there.position, b.position, atol=1e-12)
        np.testing.assert_allclose(there.rotation, b.rotation, atol=1e-9)


def test_a_vector_is_shortened_in_its_direction() -> None:
    np.testing.assert_allclose(capped(np.array([3.0, 0, 4.0]), 1.0), [0.6, 0, 0.8])
    np.testing.assert_allclose(capped(np.array([0.3, 0, 0.4]), 1.0), [0.3, 0, 0.4])
