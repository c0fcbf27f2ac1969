"""When an observation may be acted on."""

from dataclasses import dataclass

from emu_robot.shared.ranges import check_ranges, parameter


@dataclass(kw_only=True)
class ObservationConfig:
    """Every setting, each with its range and what it means in its metadata. Raises `InvalidValueError`."""

    max_age_s: float = parameter(0.3, 0.02, 5.0, "oldest picture or joint state, by its stamp and by its arrival [s]")
    future_tolerance_s: float = parameter(0.05, 0.0, 1.0, "how far ahead of now a stamp may lie [s]")
    frozen_motion: float = parameter(0.15, 0.001, 3.2, "motion of a joint in which a camera may show the same [rad]")
    frozen_difference: int = parameter(3, 0, 50, "most that any value of the same picture differs by [0, 255]")
    min_contrast: float = parameter(2.0, 0.0, 100.0, "standard deviation below which a picture shows nothing [0, 255]")

    def __post_init__(self) -> None:
        check_ranges(self, "observation")
