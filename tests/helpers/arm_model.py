"""Joints behind position servos, as far as a test of who commands them needs it. Numpy only."""

import numpy as np

from emu_robot.trajectory import Floats


class ArmModel:
    """Joints follow a setpoint with a first-order lag [s], never faster than `speed` (J,) [1/s].

    brakes: while True nothing moves, whatever the setpoint is; released, the joints go to where it is by then.
    not_finite: setpoints that were, and were not followed.
    """

    def __init__(self, position: Floats, *, speed: Floats, lag: float = 0.05) -> None:
        self.position, self.velocity = position.astype(np.float64), np.zeros(len(position))
        self.brakes, self.not_finite = False, 0
        self._speed, self._lag = speed, lag

    def step(self, setpoint: Floats, dt: float) -> None:
        """Go on by dt [s]."""
        if not np.isfinite(setpoint).all():
            self.not_finite += 1
            setpoint = self.position
        wanted = (setpoint - self.position) * (1 - np.exp(-dt / self._lag)) / dt
        self.velocity = np.zeros_like(wanted) if self.brakes else np.clip(wanted, -self._speed, self._speed)
        self.position = self.position + self.velocity * dt

    def push(self, by: Floats) -> None:
        """By hand, at once."""
        self.position = self.position + by
