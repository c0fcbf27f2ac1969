"""Cameras and joint states that arrive on their own become observations that belong together. Knows no middleware.

Nothing here reads a clock: every call is given the `Moment` at which it is made.
"""

from emu_robot.observing.buffer import NotReadyError, ObservationBuffer, TimedObservation
from emu_robot.observing.config import ObservingConfig
from emu_robot.observing.freshness import Freshness, Moment

__all__ = ["Freshness", "Moment", "NotReadyError", "ObservationBuffer", "ObservingConfig", "TimedObservation"]
