"""Joints behind position servos, as far as a test of who commands them needs it. Numpy only."""

import numpy as np

from emu_robot.core import Floats


class ArmModel:
    """Joints follow a setpoint with a first-order lag [s], never faster than `speed` (J,) [1/s].

    brakes: while True setpoints move nothing; released, the joints go to where the setpoint is by then.
    hand: (J,) [1/s] how somebody moves them while the brakes are on.
    not_finite: how many setpoints were, and were not followed.
    """

    def __init__(self, position: Floats, *, speed: Floats, lag: float = 0.03) -> None:
        self.position, self.velocity = position.astype(np.float64), np.zeros(len(position))
        self.brakes, self.hand, self.not_finite = False, np.zeros(len(position)), 0
        self._speed, self._lag = speed, lag

    def step(self, setpoint: Floats, dt: float) -> None:
        """Go on by dt [s]."""
        if not np.isfinite(setpoint).all():
            self.not_finite += 1
            setpoint = self.position
        wanted = (setpoint - self.position) * (1 - np.exp(-dt / self._lag)) / dt
        self.velocity = self.hand.copy() if self.brakes else np.clip(wanted, -self._speed, self._speed)
        self.position = self.position + self.velocity * dt
