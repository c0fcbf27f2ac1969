"""Limits of position, velocity and acceleration of a robot's dimensions."""

from dataclasses import dataclass

import numpy as np

from emu_robot.core import Floats
from emu_robot.errors import InvalidValueError, ShapeError


@dataclass(frozen=True, kw_only=True)
class MotionLimits:
    """Limits per dimension. Raises `ShapeError` or `InvalidValueError`."""

    lower: Floats
    """(A,) least position."""
    upper: Floats
    """(A,) greatest position, above `lower`."""
    velocity: Floats
    """(A,) highest speed either way [1/s], above 0."""
    acceleration: Floats
    """(A,) highest acceleration either way [1/s^2], above 0."""

    def __post_init__(self) -> None:
        shapes = {name: np.shape(value) for name, value in vars(self).items()}
        if len(set(shapes.values())) != 1 or len(self.lower.shape) != 1:
            raise ShapeError("limits", shapes, "(A,) each")
        if not all(np.isfinite(value).all() for value in vars(self).values()):
            raise InvalidValueError("a limit is not finite")
        if not (self.lower < self.upper).all():
            raise InvalidValueError("a lower limit is not below its upper one")
        if not (self.velocity > 0).all() or not (self.acceleration > 0).all():
            raise InvalidValueError("limits of velocity and acceleration must be positive")
