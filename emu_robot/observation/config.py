"""Settings of an observation's freshness."""

from dataclasses import dataclass

from emu_robot.shared.settings import check_ranges, number


@dataclass(kw_only=True)
class ObservationConfig:
    """Settings of an observation's freshness. Raises `InvalidValueError`."""

    max_age_s: float = number(0.3, 0.02, 5.0)
    """Oldest picture or joint state, by its stamp and by its arrival [s]."""
    future_tolerance_s: float = number(0.05, 0.0, 1.0)
    """How far ahead of now a stamp may lie [s]."""
    frozen_motion: float = number(0.15, 0.001, 3.2)
    """Largest motion of a joint during which a picture may stay the same [rad]."""
    frozen_difference: int = number(3, 0, 50)
    """Largest difference between values of equal pictures, on [0, 255]."""
    min_contrast: float = number(2.0, 0.0, 100.0)
    """Standard deviation below which a picture shows nothing, on [0, 255]."""

    def __post_init__(self) -> None:
        check_ranges(self, "observation")
