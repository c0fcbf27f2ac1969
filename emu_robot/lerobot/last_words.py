"""Let LeRobot's own commands end with one line on an error that a user can fix, after all other output."""

import sys
from pathlib import Path
from types import TracebackType

from emu_robot.errors import EmuRobotError


def speak_last() -> None:
    """In a process that runs one of LeRobot's commands, print our errors as `emu-robot` does, without a traceback."""
    if Path(sys.argv[0]).stem.startswith("lerobot"):
        sys.excepthook = _explain


def ours_among(error: BaseException | None) -> EmuRobotError | None:
    """The first of our errors in a chain of causes: LeRobot's parser wraps what a configuration raises."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, EmuRobotError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _explain(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    ours = ours_among(error)
    if ours is None:
        sys.__excepthook__(kind, error, traceback)
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    print(f"error: {ours}", file=sys.stderr)
