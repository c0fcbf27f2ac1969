"""A One Euro filter for poses: calm while a hand is still, quick while it moves. Reads no clock.

Casiez, Roussel, Vogel, "1 € Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems", 2012.
"""

import numpy as np

from emu_robot.robots.pose import Pose, turned

CUTOFF_HZ, SPEED_CUTOFF_HZ = 2.0, 1.5
"""Cutoff of a hand that is still, and that of the speeds [Hz]."""
PER_MM, PER_DEGREE = 0.04, 0.04
"""What the cutoff gains per speed of the place [Hz s/mm] and of the turn [Hz s/degree]."""
SHORTEST_S = 1e-3
"""Least time between two poses [s]; messages that come at once have none."""


class PoseFilter:
    """Filters the poses of one hold."""

    def __init__(self, first: Pose, now: float) -> None:
        """first: where the hold begins, at `now` [s]."""
        self._smooth, self._heard, self._at = first, first, now
        self._mm_per_s = self._degrees_per_s = 0.0

    def smooth(self, pose: Pose, now: float) -> Pose:
        """The filtered pose after another one, which came at `now` [s]."""
        dt, self._at = max(now - self._at, SHORTEST_S), now
        step, turn = self._heard.way_to(pose)
        self._heard, learned = pose, _share(SPEED_CUTOFF_HZ, dt)
        self._mm_per_s += learned * (1e3 * float(np.linalg.norm(step)) / dt - self._mm_per_s)
        self._degrees_per_s += learned * (float(np.degrees(np.linalg.norm(turn))) / dt - self._degrees_per_s)
        step, turn = self._smooth.way_to(pose)
        self._smooth = Pose(
            position=self._smooth.position + _share(CUTOFF_HZ + PER_MM * self._mm_per_s, dt) * step,
            rotation=turned(_share(CUTOFF_HZ + PER_DEGREE * self._degrees_per_s, dt) * turn) @ self._smooth.rotation,
        )
        return self._smooth


def _share(cutoff_hz: float, dt: float) -> float:
    """The part of a way that a first-order filter goes in `dt` [s]."""
    return 1.0 / (1.0 + 1.0 / (2.0 * np.pi * cutoff_hz * dt))
