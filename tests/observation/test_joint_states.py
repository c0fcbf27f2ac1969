import numpy as np
import pytest

from emu_robot.errors import InvalidValueError, ShapeError
from emu_robot.observation.joint_states import JointReader
from emu_robot.robots.deployment import Deployment, Gripper, Joints

ROBOT = Deployment(
    name="two",
    joints=Joints(
        names=("a", "b"),
        lower=(-1.0, -1.0),
        upper=(1.0, 1.0),
        velocity=(1.0, 1.0),
        acceleration=(1.0, 1.0),
        source="a test",
    ),
    gripper=Gripper(joint="g", closed=0.8, open=0.0, topic="/g"),
    command_topic="/c",
    cameras={"front": "/front"},
    planner_camera="front",
)


def test_joints_are_found_in_any_order_and_the_gripper_is_an_opening():
    state = JointReader(ROBOT).read(["wheel", "g", "b", "a"], [9.0, 0.2, 0.5, -0.5])
    assert state is not None
    np.testing.assert_allclose(state, [-0.5, 0.5, 0.75])


def test_the_gripper_may_come_on_its_own():
    reader = JointReader(ROBOT)
    assert reader.read(["a", "b"], [0.0, 0.0]) is None
    assert reader.read(["g"], [0.8]) is None
    state = reader.read(["a", "b"], [0.1, 0.2])
    assert state is not None
    np.testing.assert_allclose(state, [0.1, 0.2, 0.0])


def test_other_robots_are_none_of_our_business():
    assert JointReader(ROBOT).read(["wheel", "mast"], []) is None


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_and_not_kept(broken: float):
    reader = JointReader(ROBOT)
    with pytest.raises(InvalidValueError, match="g not finite"):
        reader.read(["a", "b", "g"], [0.0, 0.0, broken])
    assert reader.read(["a", "b"], [0.0, 0.0]) is None


def test_missing_joints_and_missing_positions_are_named():
    with pytest.raises(InvalidValueError, match="joint state without b; it has a, g"):
        JointReader(ROBOT).read(["a", "g"], [0.0, 0.0])
    with pytest.raises(ShapeError, match="2 positions, expected 3"):
        JointReader(ROBOT).read(["a", "b", "g"], [0.0, 0.0])
