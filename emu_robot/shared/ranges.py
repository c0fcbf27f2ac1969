"""Settings that are numbers, each with its range."""

from dataclasses import field, fields
from typing import Any

from emu_robot.errors import InvalidValueError


def parameter(default: float, low: float, high: float, description: str) -> Any:
    """A field of a dataclass of settings, with its range and what it means in its metadata."""
    return field(default=default, metadata={"low": low, "high": high, "description": description})


def check_ranges(settings: Any, name: str) -> None:
    """Raise `InvalidValueError` naming the first `parameter` of a dataclass that is out of its range."""
    for setting in fields(settings):
        value, low, high = getattr(settings, setting.name), setting.metadata["low"], setting.metadata["high"]
        if not low <= value <= high:
            raise InvalidValueError(f"{name}.{setting.name} is {value}, must lie in [{low}, {high}]")
