"""What a session of teleoperation needs of its recorder."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from emu_robot.core import Floats32, Observation


class Outcome(StrEnum):
    """How an episode ended, in the operator's words."""

    success = "success"
    failure = "failure"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One tick of an episode."""

    observation: Observation
    """What was seen and measured."""
    action: Floats32
    """(A,) what was sent to the arm."""
    stamp_s: float
    """When it was captured, on the steady clock [s]."""
    intervention: bool = False
    """Whether an operator corrected a policy."""
    is_overrun: bool = False
    """Whether the tick or its pictures came too late."""


class Recorder(Protocol):
    """Keeps episodes. No method delays the control loop: `add` takes at most 1 ms, the others 10 ms."""

    @property
    def committed(self) -> int:
        """Episodes that are safe on the disk."""
        ...

    @property
    def pending(self) -> int:
        """Episodes that are still being written."""
        ...

    @property
    def minutes_left(self) -> float:
        """Minutes of recording for which there is room on the disk."""
        ...

    def start(self, task: str) -> None:
        """Begin an episode."""
        ...

    def add(self, frame: Frame) -> None:
        """Take a frame. Raises an `EmuRobotError` if it cannot be kept."""
        ...

    def mark(self, subtask: str) -> None:
        """The next subtask begins."""
        ...

    def flag(self, text: str) -> None:
        """Note something about this moment."""
        ...

    def end(self, outcome: Outcome, cause: str = "") -> None:
        """End the episode; it is committed in the background."""
        ...

    def discard(self) -> None:
        """Forget the running episode."""
        ...

    def preflight(self, observation: Observation) -> list[str]:
        """Reasons not to start; empty without one."""
        ...

    def close(self) -> None:
        """Wait until everything is written."""
        ...
