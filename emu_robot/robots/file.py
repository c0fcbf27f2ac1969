"""Reads a robot's file as plain values: YAML without aliases and without repeated keys. Knows no robots."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from emu_robot.errors import ConfigError
from emu_robot.robots.checks import brief, one_line

MOST_BYTES = 100_000
"""Largest robot file [bytes]; files that ship have about 1000."""
_RAISED_BY_YAML = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""Errors of PyYAML beside its own kind, for dates such as 2001-99-99, `!!int abc`, or a thousand levels."""


def read_text(path: Path) -> str:
    """Text of a file. Raises `ConfigError` naming it if it is no file, too large, not UTF-8, or not readable."""
    shown = one_line(path)
    try:
        if not path.is_file():
            raise ConfigError(f"{shown} is {'a folder' if path.is_dir() else 'not a file'}, must be a YAML file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{shown} cannot be read: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{shown} has more than {MOST_BYTES} bytes, a robot's file has a few thousand")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown} is not UTF-8: byte {error.start} is {data[error.start]:#04x}") from error


def parse_yaml(text: Any) -> dict[Any, Any]:
    """The mapping in a YAML text.

    Raises `ConfigError`, without the file's name, for anything else: no text, malformed YAML, a repeated key, aliases
    (which can stand for a billion values), more than `MOST_BYTES`.
    """
    if not isinstance(text, str):
        raise ConfigError(f"is {brief(text)}, must be text in YAML")
    if len(text) > MOST_BYTES:
        raise ConfigError(f"has more than {MOST_BYTES} characters, a robot's file has a few thousand")
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {_reason(error)}") from error
    except _RAISED_BY_YAML as error:
        raise ConfigError(f"not YAML: a value makes no sense ({one_line(error) or 'too deep'})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"holds {brief(values)}, must hold a mapping with the keys of a robot's file")
    return values


class _Loader(yaml.SafeLoader):
    """Refuses aliases and repeated keys; PyYAML itself would silently use the last value."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()
            raise yaml.MarkedYAMLError(
                problem=f"the alias *{event.anchor} is not taken, write the values out", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            name = self.construct_object(key, deep=True)
            if isinstance(name, Hashable) and name in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {brief(name)} twice", problem_mark=key.start_mark)
            seen |= {name} if isinstance(name, Hashable) else set()
        return super().construct_mapping(node, deep)


def _reason(error: yaml.YAMLError) -> str:
    """The parser's message and its line number, in one line."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    return one_line(problem or str(error).splitlines()[0]) + (f", line {mark.line + 1}" if mark else "")
