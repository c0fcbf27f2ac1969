"""Settings of the safety gate, each a number with its range."""

from dataclasses import dataclass

from emu_robot.errors import InvalidValueError
from emu_robot.shared.ranges import check_ranges, parameter


@dataclass(kw_only=True)
class SafetyConfig:
    """Every parameter of the gate, each with its range and what it means in its metadata."""

    control_hz: float = parameter(50.0, 10.0, 1000.0, "commands per second [Hz]")
    max_chunk_age_s: float = parameter(0.5, 0.01, 5.0, "oldest observation a chunk may answer to [s]")
    future_tolerance_s: float = parameter(0.02, 0.0, 0.2, "how far ahead a capture time may lie [s]")
    heartbeat_timeout_s: float = parameter(0.15, 0.02, 2.0, "silence of the policy after which the robot holds [s]")
    state_timeout_s: float = parameter(0.1, 0.01, 1.0, "age of the joint states after which the robot holds [s]")
    driver_timeout_s: float = parameter(2.0, 0.1, 60.0, "age of the joint states that is a fault: no driver [s]")
    deadman_timeout_s: float = parameter(0.2, 0.02, 1.0, "silence of the deadman switch that counts as released [s]")
    max_jump: float = parameter(0.35, 0.001, 3.2, "largest step of a joint between actions, or to the first [rad]")
    max_tracking_error: float = parameter(0.5, 0.01, 3.2, "largest distance of a joint from its command [rad]")
    max_hold_error: float = parameter(0.15, 0.001, 3.2, "the same at rest; if it lasts, commands end [rad]")
    state_margin: float = parameter(0.1, 0.0, 1.0, "how far outside its limits a joint may be measured [rad]")
    max_state_speed: float = parameter(10.0, 0.1, 100.0, "fastest motion between joint states that is believed [rad/s]")
    max_bad_states: int = parameter(5, 1, 1000, "refused joint states between others within a second that make a fault")
    max_rejections: int = parameter(5, 1, 1000, "wrong chunks in a row that make a fault")
    gap_timeout_s: float = parameter(0.1, 0.05, 1.0, "silence of the gate itself after which it starts from rest [s]")
    clock_jump_s: float = parameter(0.05, 0.001, 10.0, "jump of the wall clock that is a fault [s]")
    blend_s: float = parameter(0.1, 0.0, 1.0, "how long a new chunk is faded in [s]")
    max_chunk_actions: int = parameter(1000, 1, 100_000, "most actions of a chunk")

    def __post_init__(self) -> None:
        check_ranges(self, "safety")
        if self.gap_timeout_s < 2.0 / self.control_hz:
            raise InvalidValueError(
                f"safety.gap_timeout_s is {self.gap_timeout_s}, must be two ticks at least: {2.0 / self.control_hz:g}"
            )
