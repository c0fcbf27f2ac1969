"""Damped least squares inverse kinematics for the downward-pointing gripper."""

import mujoco
import numpy as np

from emu_robot.core import Floats
from emu_robot.robots.spec import PANDA
from emu_sim.world import World

DAMPING = 1e-3
ROTATION_GAIN = 0.5
POSTURE_GAIN = 0.02
DOWN = np.array([[1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0]])  # R_world_tool: fingers open along y
MAX_JOINT_STEP = 0.15  # [rad] lead of the target over the joint; the servo follows it with a time constant of 0.1 s


def joint_target(world: World, step_xyz: Floats) -> Floats:
    """(7,) joint targets [rad] that move the pinch point by step_xyz (3,) [m] and turn the gripper towards DOWN."""
    jac_pos, jac_rot = np.zeros((3, world.model.nv)), np.zeros((3, world.model.nv))
    site = world.model.site("pinch").id
    mujoco.mj_jacSite(world.model, world.data, jac_pos, jac_rot, site)
    jacobian = np.vstack([jac_pos, jac_rot])[:, world.dof_index]
    rotation = world.data.site_xmat[site].reshape(3, 3)
    turn = 0.5 * sum(np.cross(rotation[:, i], DOWN[:, i]) for i in range(3))
    twist = np.concatenate([step_xyz, ROTATION_GAIN * turn])
    gram = jacobian @ jacobian.T + DAMPING * np.eye(6)
    pseudo_inverse = jacobian.T @ np.linalg.inv(gram)
    posture = POSTURE_GAIN * (np.array(PANDA.home) - world.joints)
    delta = pseudo_inverse @ twist + posture - pseudo_inverse @ (jacobian @ posture)
    return world.joints + np.clip(delta, -MAX_JOINT_STEP, MAX_JOINT_STEP)
