"""Where a point of a MuJoCo model is for given joints, on a copy of the model's data."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats
from emu_robot.robots.pose import Pose


class ModelKinematics:
    """The pose of one site, as `robots.arm.Kinematics`. Other joints stay where the model has them at first."""

    def __init__(self, model: mujoco.MjModel, site: int, qpos: NDArray[np.intp], dofs: NDArray[np.intp]) -> None:
        """site: index of the site. qpos, dofs: indices (J,) of the joints' places and speeds."""
        self._model, self._data = model, mujoco.MjData(model)
        self._site, self._qpos, self._dofs = site, qpos, dofs

    def pose(self, joints: Floats) -> Pose:
        """The tool's pose for joints (J,) [rad]."""
        self._place(joints)
        return Pose(
            position=self._data.site_xpos[self._site].copy(),
            rotation=self._data.site_xmat[self._site].reshape(3, 3).copy(),
        )

    def jacobian(self, joints: Floats) -> Floats:
        """(6, J): step [m] and turn [rad] of the tool per joint."""
        self._place(joints)
        step, turn = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        mujoco.mj_jacSite(self._model, self._data, step, turn, self._site)
        return np.vstack([step, turn])[:, self._dofs]

    def _place(self, joints: Floats) -> None:
        self._data.qpos[self._qpos] = joints
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
