"""Checks of single values of a robot's file. Each error is one line: the key, the given value, what is allowed."""

import re
import reprlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from emu_robot.errors import ConfigError, UnknownNameError

MOST_CHARACTERS, MOST_TOPIC, MOST_WORDS = 100, 200, 1000
"""Longest name, topic, and free text. ROS 2 allows 255 characters with the namespace and an action's endings."""
_TOPIC = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
_ROBOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_MOST_SHOWN = 80


class _Brief(reprlib.Repr):
    """Also shows whole numbers with more digits than Python prints. Shows tuples as lists, as the file has them."""

    def repr_tuple(self, x: tuple[Any, ...], level: int) -> str:
        return super().repr_list(list(x), level)

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() < 200 else f"a whole number of {x.bit_length()} bits"


_BRIEF = _Brief()
_BRIEF.maxstring = _BRIEF.maxother = _MOST_SHOWN


def brief(value: object) -> str:
    """A value as an error shows it: one short line."""
    return "null" if value is None else one_line(_BRIEF.repr(value))


def one_line(text: object) -> str:
    """A text without line ends and unprintable characters, cut after 300 characters."""
    shown = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(text)[:301])
    return shown if len(shown) <= 300 else f"{shown[:300]}…"


def check_number(key: str, value: Any, low: float, high: float, unit: str = "", hint: str = "") -> None:
    """Require a number in [low, high], neither bool, inf nor nan. hint: likely reason for a value out of range."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ConfigError(f"{key} is {brief(value)}, must be a number{_as_number(value)}")
    if not low <= value <= high:
        why = f" ({hint})" if hint else ""
        raise ConfigError(f"{key} is {brief(value)}, must lie in [{low:g}, {high:g}]{unit and f' {unit}'}{why}")


def check_list(key: str, value: Any, what: str) -> None:
    """Require a tuple: lists of a file become tuples. what: the elements, in words."""
    if not isinstance(value, tuple):
        raise ConfigError(f"{key} is {brief(value)}, must be a list of {what}")


def check_text(key: str, value: Any, most: int = MOST_CHARACTERS) -> None:
    """Require text of 1 to `most` characters that is not blank."""
    if not isinstance(value, str):
        quote = "; write it in quotes" if isinstance(value, bool | int | float) else ""
        raise ConfigError(f"{key} is {brief(value)}, must be text{quote}")
    if not value.strip() or len(value) > most:
        raise ConfigError(f"{key} is {brief(value)}, must be text of 1 to {most} characters")


def check_joint_name(key: str, value: Any) -> None:
    """Require a joint's name: printable, without a space at either end."""
    check_text(key, value)
    if value != value.strip() or not value.isprintable():
        raise ConfigError(f"{key} is {brief(value)}, must be printable and without a space at either end")


def check_robot_name(key: str, value: Any) -> None:
    """Require a robot's name that fits into file names."""
    check_text(key, value)
    if not _ROBOT.fullmatch(value):
        raise ConfigError(f"{key} is {brief(value)}, must begin with a letter or digit and hold only those and _ . -")


def check_camera_name(key: str, value: Any) -> None:
    """Require a camera's name that fits into parameters, topics and columns of data sets."""
    check_text(key, value)
    if not (value.isascii() and value.isidentifier()):
        raise ConfigError(
            f"{key} has the camera {brief(value)}, its name must hold letters, digits, _ and no digit first"
        )


def check_topic(key: str, value: Any) -> None:
    """Require a ROS 2 name, absolute (/a/b) or relative (a/b). ~ and {} are refused: they differ between nodes."""
    if not isinstance(value, str) or not _TOPIC.fullmatch(value) or len(value) > MOST_TOPIC:
        must = "must be a topic's name: letters, digits and _, parts joined by single /, none beginning with a digit"
        raise ConfigError(f"{key} is {brief(value)}, {must}, {MOST_TOPIC} characters at most")


def check_choice(key: str, value: Any, known: Iterable[str]) -> None:
    """Require one of the known names."""
    check_text(key, value)
    if value not in known:
        raise UnknownNameError(key, value, known)


def check_different(values: Iterable[tuple[str, str]]) -> None:
    """Require of (key, name) pairs that no name stands under two keys."""
    seen: dict[str, str] = {}
    for key, name in values:
        if name in seen:
            raise ConfigError(f"{key} is {brief(name)}, as is {seen[name]}; each needs its own")
        seen[name] = key


def _as_number(value: Any) -> str:
    """How to write a text that looks like a number: YAML reads 1e3 as text."""
    try:
        return f"; YAML takes it as text, write {float(value)}" if isinstance(value, str) else ""
    except ValueError:
        return ""
