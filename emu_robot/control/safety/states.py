"""The state of a gate, and its command to the robot."""

from dataclasses import dataclass
from enum import StrEnum

from emu_robot.core import Floats


class GateState(StrEnum):
    """States of the gate; the values are the words that messages carry."""

    DISARMED = "disarmed"
    HOLDING = "holding"
    TRACKING = "tracking"
    FAULT = "fault"
    ESTOP = "estop"

    @property
    def is_armed(self) -> bool:
        """Whether chunks may be executed."""
        return self in (GateState.HOLDING, GateState.TRACKING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """What the robot should reach one tick from now."""

    position: Floats
    """(A,), joints [rad] or [m] and gripper openings in [0, 1]."""
    velocity: Floats
    """(A,), the position's change per second."""
    state: GateState
    """State of the gate."""
    reason: str = ""
    """Why the robot holds; empty while it follows chunks."""
    moves_gripper: bool = True
    """Whether grippers are commanded, too. Before the first chunk they stay as they are."""
