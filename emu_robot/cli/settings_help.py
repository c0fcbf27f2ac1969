"""`--help` of a verb: every key with the verb's default, its possible values and its meaning."""

import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from emu_robot.config import load_config, preset_names, type_choices
from emu_robot.shared.settings import field_docs, range_text

type Line = list[tuple[str, str]]
"""Pieces of text, each with its style."""
WIDTH = 100
"""Columns, if the terminal has as many."""
INDENT = " " * 6
WORDS = {int: "whole number", float: "number", str: "text", Path: "path"}


def print_settings(verb: str, command: str) -> None:
    """Print the settings of a verb, grouped by nesting; plain text if the output is no terminal.

    command: the words before the keys, for instance "train stage=head".
    """
    from rich.console import Console
    from rich.text import Text

    console = Console()
    width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    for line in _lines(verb, command, width):
        console.print(Text.assemble(*line), soft_wrap=True, highlight=False)


def _lines(verb: str, command: str, width: int) -> Iterator[Line]:
    config = load_config(verb)
    yield [(f"emu-robot {command} KEY=VALUE ...", "bold")]
    for paragraph in (inspect.getdoc(type(config)) or "").split("\n\n"):
        yield [(textwrap.fill(" ".join(paragraph.split()), width), "")]
    yield from _group(config, "", width)
    presets = preset_names(verb)
    if presets:
        yield []
        yield from _entry("experiment=", " | ".join(presets), "Preset to start from; other keys override it.", width)


def _group(config: Any, prefix: str, width: int) -> Iterator[Line]:
    """The keys of a dataclass, then those of its nested dataclasses, each group below its description."""
    hints, docs = typing.get_type_hints(type(config)), field_docs(type(config))
    nested = []
    yield []
    for setting in dataclasses.fields(config):
        name, value = setting.name, getattr(config, setting.name)
        if dataclasses.is_dataclass(value):
            nested.append((name, value))
            continue
        kind = describe_kind(hints[name], setting.metadata)
        yield from _entry(f"{prefix}{name}={show_value(value)}", kind, docs[name], width)
    for name, value in nested:
        yield []
        yield [(textwrap.fill(f"{prefix}{name}: {docs[name]}", width), "bold")]
        yield from _group(value, f"{prefix}{name}.", width)


def _entry(default: str, kind: str, about: str, width: int) -> Iterator[Line]:
    yield [("  ", ""), (default, "cyan"), (f"   {kind}", "dim")]
    if about:
        yield [(textwrap.fill(about, width, initial_indent=INDENT, subsequent_indent=INDENT), "")]


def describe_kind(hint: Any, limits: Mapping[str, float]) -> str:
    """Possible values of a field, in words: "whole number, at least 1", "seen | heldout", "path or null"."""
    choices = type_choices(hint)
    words = " or ".join(_word(choice) for choice in choices if choice is not types.NoneType)
    said = range_text(limits).removeprefix("be ").replace("lie in", "in") if "low" in limits else ""
    nullable = " or null" if types.NoneType in choices else ""
    return f"{words}{f', {said}' if said else ''}{nullable}"


def _word(hint: Any) -> str:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " | ".join(str(member.value) for member in hint)
    if hint is bool:
        return "true | false"
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict:
        return f"table: KEY.NAME={_word(inside[1])}"
    if origin is tuple and Ellipsis not in inside:
        return ",".join(_word(one) for one in inside)
    if origin in (list, tuple):
        return f"{_word(inside[0])},..."
    return WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def show_value(value: Any) -> str:
    """A default as it would be typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {show_value(one)}" for name, one in value.items()) + "}"
    return ",".join(map(show_value, value)) if isinstance(value, (tuple, list)) else str(value)
