"""Inverse kinematics by damped least squares. Numpy only; knows one arm only by its `Kinematics`."""

import numpy as np

from emu_robot.core import Floats
from emu_robot.robots.arm import Kinematics
from emu_robot.robots.pose import Pose

DAMPING = 1e-4
"""Weight of short joint steps against the tool's error; larger is calmer near singular places."""
POSTURE = 0.05
"""Share of the way to the resting posture per iteration, with motions that leave the tool where it is."""
STEP = 0.2
"""Largest step of a joint per iteration [rad]."""
CLOSE, ALIGNED = 1e-5, 1e-4
"""Errors of place [m] and turn [rad] that end the iterations."""


def solve(
    kinematics: Kinematics,
    joints: Floats,
    goal: Pose,
    *,
    rest: Floats,
    lower: Floats,
    upper: Floats,
    turn_weight: float = 1.0,
    iterations: int = 8,
) -> Floats:
    """Joints (J,) [rad], near the given ones and within their limits, that bring the tool as near to the goal as it
    gets in a few iterations. rest: (J,) posture that the joints lean to where the goal leaves them free. turn_weight:
    what an error of the turn counts beside one of the place [m/rad].
    """
    weight = np.repeat([1.0, turn_weight], 3)
    for _ in range(iterations):
        step, turn = kinematics.pose(joints).way_to(goal)
        if np.linalg.norm(step) < CLOSE and np.linalg.norm(turn) < ALIGNED:
            break
        jacobian = weight[:, None] * kinematics.jacobian(joints)
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + DAMPING * np.eye(6))
        lean = POSTURE * (rest - joints)
        change = inverse @ (weight * np.concatenate([step, turn])) + lean - inverse @ (jacobian @ lean)
        joints = np.clip(joints + np.clip(change, -STEP, STEP), lower, upper)
    return joints
