"""What a session of teleoperation needs of its recorder; `recording.session.SessionRecorder` has it."""

from collections.abc import Mapping
from typing import Protocol

from emu_robot.core import Observation
from emu_robot.recording.messages import Frame, Outcome


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

    def preflight(self, observation: Observation, ages_s: Mapping[str, float] | None = None) -> list[str]:
        """Reasons not to start; empty without one. ages_s: age of each camera's picture [s]."""
        ...

    def close(self) -> None:
        """Wait until everything is written."""
        ...
