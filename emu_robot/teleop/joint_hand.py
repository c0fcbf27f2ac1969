"""An operator's hand for an arm whose kinematics are not known: it moves one joint at a time."""

import numpy as np

from emu_robot.core import Floats
from emu_robot.robots.limits import MotionLimits
from emu_robot.teleop.hand import Hand, HandConfig


class JointHand(Hand):
    """Moves the joint that the wish names. A target leads its measured joint by at most `leash_rad`."""

    def __init__(self, limits: MotionLimits, home: Floats, config: HandConfig) -> None:
        """home: (J,) joints [rad]; the dimensions after them are grippers."""
        super().__init__(None, limits, home, config)

    def _after(self, measured: Floats, dt: float) -> Floats:
        config, wish, n = self._config, self.wish, self._n
        joints = self._joints.copy()
        if wish.joint is not None and wish.joint < n:
            joints[wish.joint] += config.angular_speed * dt * wish.share
        at = measured[:n]
        joints = np.clip(joints, at - config.leash_rad, at + config.leash_rad)
        return np.clip(joints, self._limits.lower[:n], self._limits.upper[:n])
