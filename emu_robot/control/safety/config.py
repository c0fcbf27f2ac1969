"""Settings of the safety gate, each a number with its range."""

from dataclasses import dataclass

from emu_robot.errors import InvalidValueError
from emu_robot.shared.settings import check_ranges, number


@dataclass(kw_only=True)
class SafetyConfig:
    """Parameters of the gate."""

    control_hz: float = number(50.0, 10.0, 1000.0)
    """Commands per second [Hz]."""
    max_chunk_age_s: float = number(0.5, 0.01, 5.0)
    """Oldest observation a chunk may answer to [s]."""
    future_tolerance_s: float = number(0.02, 0.0, 0.2)
    """How far ahead a capture time may lie [s]."""
    heartbeat_timeout_s: float = number(0.15, 0.02, 2.0)
    """Silence of the policy after which the robot holds [s]."""
    state_timeout_s: float = number(0.1, 0.01, 1.0)
    """Age of the joint states after which the robot holds [s]."""
    driver_timeout_s: float = number(2.0, 0.1, 60.0)
    """Age of the joint states that is a fault: the driver is gone [s]."""
    deadman_timeout_s: float = number(0.2, 0.02, 1.0)
    """Silence of the deadman switch that counts as released [s]."""
    max_jump: float = number(0.35, 0.001, 3.2)
    """Largest step of a joint between actions, or to the first [rad]."""
    max_tracking_error: float = number(0.5, 0.01, 3.2)
    """Largest distance of a joint from its command [rad]."""
    max_hold_error: float = number(0.15, 0.001, 3.2)
    """Largest distance of a resting joint from its command; if it lasts, commands end [rad]."""
    state_margin: float = number(0.1, 0.0, 1.0)
    """How far outside its limits a joint may be measured [rad]."""
    max_state_speed: float = number(10.0, 0.1, 100.0)
    """Fastest believed motion between joint states [rad/s]."""
    max_bad_states: int = number(5, 1, 1000)
    """Refused joint states between believed ones within a second that are a fault."""
    max_rejections: int = number(5, 1, 1000)
    """Wrong chunks in a row that are a fault."""
    gap_timeout_s: float = number(0.1, 0.05, 1.0)
    """Silence of the gate itself after which it starts from rest [s]."""
    clock_jump_s: float = number(0.05, 0.001, 10.0)
    """Jump of the wall clock that is a fault [s]."""
    blend_s: float = number(0.1, 0.0, 1.0)
    """Time over which a new chunk is faded in [s]."""
    max_chunk_actions: int = number(1000, 1, 100_000)
    """Largest number of actions in a chunk."""

    def __post_init__(self) -> None:
        check_ranges(self, "safety")
        if self.gap_timeout_s < 2.0 / self.control_hz:
            raise InvalidValueError(
                f"safety.gap_timeout_s is {self.gap_timeout_s}, must be two ticks at least: {2.0 / self.control_hz:g}"
            )
