"""What a gate is in, and what it says to the robot."""

from dataclasses import dataclass
from enum import StrEnum

from emu_robot.core import Floats


class GateState(StrEnum):
    DISARMED = "disarmed"
    HOLDING = "holding"
    TRACKING = "tracking"
    FAULT = "fault"
    ESTOP = "estop"

    @property
    def is_armed(self) -> bool:
        """Whether chunks may come to be executed."""
        return self in (GateState.HOLDING, GateState.TRACKING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """Position (A,) and velocity (A,) to be reached one tick from now, and why the robot holds, if it does.

    moves_gripper: whether grippers are commanded, too; before the first chunk they stay as they were found.
    """

    position: Floats
    velocity: Floats
    state: GateState
    reason: str = ""
    moves_gripper: bool = True
