"""Whether the robot follows its commands. It compares joint states with the last command and decides nothing."""

import numpy as np

from emu_robot.control.safety.commands import CommandStream
from emu_robot.control.safety.config import SafetyConfig
from emu_robot.control.safety.measured import MeasuredJoints
from emu_robot.core import Floats

HOLD_ERROR_S = 0.3
"""How long a robot may rest away from its command before it counts as moved by something else [s]."""


class Following:
    """Distance between the measured robot and its last command."""

    def __init__(self, config: SafetyConfig, measured: MeasuredJoints, stream: CommandStream, joints: int) -> None:
        """joints: how many of the first dimensions are joints; the others are grippers, which are not compared."""
        self._config, self._measured, self._stream, self._joints = config, measured, stream, joints
        self._away_since: float | None = None

    @property
    def error(self) -> float:
        """Largest distance of a joint from its command [rad]; 0 before the first joint state."""
        if self._measured.position is None:
            return 0.0
        return float(np.abs(self._measured.position - self._stream.position)[: self._joints].max())

    def was_moved(self, now: float, *, tracking: bool) -> bool:
        """Whether the robot has rested away from its command for `HOLD_ERROR_S`. Call it at every tick.

        tracking: whether a chunk is played; the robot does not rest then.
        """
        away = self._stream.at_rest and self._measured.is_fresh(now) and not tracking
        if not away or self.error <= self._config.max_hold_error:
            self._away_since = None
            return False
        self._away_since = now if self._away_since is None else self._away_since
        return now - self._away_since >= HOLD_ERROR_S

    def place(self, *, keep_grippers: bool) -> Floats:
        """Measured position (A,). keep_grippers: give grippers as they were commanded last."""
        assert self._measured.position is not None
        grippers = self._stream.position if keep_grippers else self._measured.position
        return np.concatenate([self._measured.position[: self._joints], grippers[self._joints :]])

    def restart(self) -> None:
        """Commands begin again where the robot is."""
        self._away_since = None
