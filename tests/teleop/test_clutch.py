"""Drags and pulses of a page as samples of an operator's device."""

import numpy as np
import pytest

from emu_robot.errors import InvalidValueError
from emu_robot.robots.pose import Pose, turned
from emu_robot.teleop.clutch import Clutch, Pulse

TOOL = Pose(position=np.array([0.4, 0.1, 0.3]), rotation=turned(np.array([np.pi, 0.0, 0.0])))
HELD, LIFTED = Pulse(held=True, number=7), Pulse(held=False)


def at(*position: float, turn: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Pose:
    return Pose(position=np.array(position), rotation=turned(np.array(turn)))


def test_a_drag_begins_where_the_arm_is_wanted_wherever_the_handle_was() -> None:
    clutch = Clutch()
    clutch.hear(HELD, 1.0)
    clutch.grab(at(0.0, 0.0, 0.0), TOOL)
    sample = clutch.sample()
    assert sample.pressed and sample.at == 1.0 and sample.number == 7 and sample.wish.goal is not None
    step, turn = TOOL.way_to(sample.wish.goal)
    assert np.abs(step).max() < 1e-12 and np.abs(turn).max() < 1e-12
    clutch.drag(at(0.0, 0.01, 0.0))
    clutch.drag(at(0.0, 0.05, -0.02, turn=(0.0, 0.0, 0.3)))
    goal = clutch.sample().wish.goal
    assert goal is not None
    step, turn = TOOL.way_to(goal)
    np.testing.assert_allclose(step, [0.0, 0.05, -0.02], atol=1e-12)
    np.testing.assert_allclose(turn, [0.0, 0.0, 0.3], atol=1e-12)


def test_a_handle_that_was_grabbed_before_it_came_back_to_the_arm_makes_no_leap() -> None:
    clutch = Clutch()
    clutch.hear(HELD, 1.0)
    clutch.grab(TOOL, TOOL)
    clutch.drag(at(0.9, 0.1, 0.3))
    goal = clutch.sample().wish.goal
    assert goal is not None and np.abs(goal.position - TOOL.position).max() < 1e-12
    clutch.drag(at(0.91, 0.1, 0.3))
    goal = clutch.sample().wish.goal
    assert goal is not None
    np.testing.assert_allclose(goal.position - TOOL.position, [0.01, 0.0, 0.0], atol=1e-12)


def test_both_the_drag_and_the_finger_are_needed() -> None:
    clutch = Clutch()
    clutch.grab(at(0.0, 0.0, 0.0), TOOL)
    assert not clutch.sample().pressed, "a drag without a pulse drives"
    clutch.let_go()
    clutch.hear(HELD, 1.0)
    assert not clutch.sample().pressed, "a finger elsewhere drives"


def test_a_lifted_finger_ends_the_drag_although_its_end_is_not_heard_of() -> None:
    clutch = Clutch()
    clutch.hear(HELD, 1.0)
    clutch.grab(at(0.0, 0.0, 0.0), TOOL)
    clutch.hear(LIFTED, 1.1)
    clutch.hear(HELD, 1.2)
    clutch.drag(at(0.3, 0.3, 0.3))
    assert not clutch.is_dragged and not clutch.sample().pressed


def test_a_drag_alone_keeps_nothing_alive() -> None:
    clutch = Clutch()
    clutch.hear(HELD, 1.0)
    clutch.grab(at(0.0, 0.0, 0.0), TOOL)
    for i in range(20):
        clutch.drag(at(0.0, 0.001 * i, 0.0))
    assert clutch.sample().at == 1.0


def test_home_and_gripper_need_no_drag() -> None:
    clutch = Clutch()
    clutch.hear(Pulse(held=False, goes_home=True), 1.0)
    assert clutch.sample().pressed and clutch.sample().wish.goes_home
    clutch.hear(Pulse(held=False, grips=True), 1.1)
    assert clutch.sample().pressed and clutch.sample().wish.goal is None


@pytest.mark.parametrize("place", [(np.nan, 0.0, 0.0), (0.0, np.inf, 0.0), (0.0, 0.0, 1e300)])
def test_a_handle_at_no_place_is_refused(place: tuple[float, float, float]) -> None:
    clutch = Clutch()
    clutch.hear(HELD, 1.0)
    clutch.grab(at(0.0, 0.0, 0.0), TOOL)
    with pytest.raises(InvalidValueError, match="within 10 m"):
        clutch.drag(Pose(position=np.array(place), rotation=np.eye(3)))
    goal = clutch.sample().wish.goal
    assert goal is not None and np.isfinite(goal.position).all()
