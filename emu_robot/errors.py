"""Errors that a user can cause. Messages say what was given and what exists."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 4000
"""Most characters of a message."""


class EmuRobotError(Exception):
    """Base class. The command line prints it as one line and exits with a status other than 0.

    Names that come from files may hold anything: line breaks become spaces, other characters that cannot be printed are
    escaped, and the message is cut at `LONGEST` characters.
    """

    def __str__(self) -> str:
        spaced = (" " if one.isspace() else one for one in super().__str__())
        said = "".join(one if one.isprintable() else repr(one)[1:-1] for one in spaced)
        return said if len(said) <= LONGEST else f"{said[:LONGEST]}..."


class UnknownNameError(EmuRobotError):
    """A given name does not exist."""

    def __init__(self, kind: str, given: object, known: Iterable[object]) -> None:
        self.kind, self.given, self.known = kind, given, tuple(known)
        names = ", ".join(str(name) for name in self.known) or "none"
        super().__init__(f"unknown {kind} {given!r}; known: {names}{nearest_known(given, self.known)}")


class ShapeError(EmuRobotError):
    """An array has the wrong shape or dtype."""

    def __init__(self, what: str, given: object, expected: object) -> None:
        super().__init__(f"{what}: got {given}, expected {expected}")


class InvalidValueError(EmuRobotError):
    """A value is outside its allowed range."""


class ConfigError(EmuRobotError):
    """A configuration file or override is wrong."""


class RobotStoppedError(EmuRobotError):
    """The safety gate has stopped the robot until a person releases it; the message says why and how."""


class WeightsError(EmuRobotError):
    """Weights are missing, corrupted, or do not fit their manifest."""


class DataError(EmuRobotError):
    """A dataset or cache is missing, corrupted, or does not fit."""


class SystemSetupError(EmuRobotError):
    """The machine lacks something (a library, disk space); the message says how to get it."""


def nearest_known(given: object, known: Iterable[object]) -> str:
    """The end of a message, such as "; did you mean 'eval'?"; "" if no known name is near."""
    nearest = get_close_matches(str(given), [str(name) for name in known], n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
