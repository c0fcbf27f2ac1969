"""Checks of single values of a robot's file. Each raises an error of one line: key, what was given, what may be."""

import re
import reprlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from emu_robot.errors import ConfigError, UnknownNameError

MOST_CHARACTERS, MOST_TOPIC, MOST_WORDS = 100, 200, 1000
"""Longest name, topic, and text for people. ROS 2 takes 255 characters with the namespace and an action's endings."""
_TOPIC = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
_ROBOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_MOST_SHOWN = 80


class _Brief(reprlib.Repr):
    """Also for whole numbers of more digits than Python prints; lists of a file, which become tuples, look like it."""

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
    """A text without line ends and what no terminal shows, cut after some 300 characters."""
    shown = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(text)[:301])
    return shown if len(shown) <= 300 else f"{shown[:300]}…"


def check_number(key: str, value: Any, low: float, high: float, unit: str = "", hint: str = "") -> None:
    """In [low, high]; True, text, inf and nan are none. hint: what a value out of range may come from."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ConfigError(f"{key} is {brief(value)}, must be a number{_as_number(value)}")
    if not low <= value <= high:
        why = f" ({hint})" if hint else ""
        raise ConfigError(f"{key} is {brief(value)}, must lie in [{low:g}, {high:g}]{unit and f' {unit}'}{why}")


def check_list(key: str, value: Any, what: str) -> None:
    """A tuple, as lists of a file become. what: it holds."""
    if not isinstance(value, tuple):
        raise ConfigError(f"{key} is {brief(value)}, must be a list of {what}")


def check_text(key: str, value: Any, most: int = MOST_CHARACTERS) -> None:
    """Text of 1 to `most` characters with more than spaces in it."""
    if not isinstance(value, str):
        quote = "; write it in quotes" if isinstance(value, bool | int | float) else ""
        raise ConfigError(f"{key} is {brief(value)}, must be text{quote}")
    if not value.strip() or len(value) > most:
        raise ConfigError(f"{key} is {brief(value)}, must be text of 1 to {most} characters")


def check_joint_name(key: str, value: Any) -> None:
    """As in the robot's description and its joint states: printable, without a space at either end."""
    check_text(key, value)
    if value != value.strip() or not value.isprintable():
        raise ConfigError(f"{key} is {brief(value)}, must be printable and without a space at either end")


def check_robot_name(key: str, value: Any) -> None:
    """It becomes part of file names."""
    check_text(key, value)
    if not _ROBOT.fullmatch(value):
        raise ConfigError(f"{key} is {brief(value)}, must begin with a letter or digit and hold only those and _ . -")


def check_camera_name(key: str, value: Any) -> None:
    """It becomes part of parameters, of topics and of columns of data sets."""
    check_text(key, value)
    if not (value.isascii() and value.isidentifier()):
        raise ConfigError(
            f"{key} has the camera {brief(value)}, its name must hold letters, digits, _ and no digit first"
        )


def check_topic(key: str, value: Any) -> None:
    """A name of ROS 2, absolute (/a/b) or relative to the namespace (a/b); ~ and {} differ between nodes."""
    if not isinstance(value, str) or not _TOPIC.fullmatch(value) or len(value) > MOST_TOPIC:
        must = "must be a topic's name: letters, digits and _, parts joined by single /, none beginning with a digit"
        raise ConfigError(f"{key} is {brief(value)}, {must}, {MOST_TOPIC} characters at most")


def check_choice(key: str, value: Any, known: Iterable[str]) -> None:
    """One of these names."""
    check_text(key, value)
    if value not in known:
        raise UnknownNameError(key, value, known)


def check_different(values: Iterable[tuple[str, str]]) -> None:
    """(key, name): no name under two keys."""
    seen: dict[str, str] = {}
    for key, name in values:
        if name in seen:
            raise ConfigError(f"{key} is {brief(name)}, as is {seen[name]}; each needs its own")
        seen[name] = key


def _as_number(value: Any) -> str:
    """How to write a text that would be one: YAML takes 1e3 for text."""
    try:
        return f"; YAML takes it as text, write {float(value)}" if isinstance(value, str) else ""
    except ValueError:
        return ""
