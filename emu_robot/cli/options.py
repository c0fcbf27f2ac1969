"""What the verbs share: `--help` from a schema, sub-verbs, one key taken out of the rest."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from emu_robot.config import load_config, load_schema, preset_names
from emu_robot.errors import ConfigError, UnknownNameError


def configure(verb: str, arguments: Sequence[str]) -> Any | None:
    """The verb's configuration, or None after printing its keys because help was asked for."""
    if any(word in ("-h", "--help") for word in arguments):
        print(describe(verb))
        return None
    return load_config(verb, arguments)


def describe(verb: str) -> str:
    """Every key of a verb with its default, and its presets."""
    lines = [f"{key}={_show(value)}" for key, value in _defaults(load_schema(verb)())]
    presets = preset_names(verb)
    return "\n".join([f"{verb}: key=default", *lines, *([f"experiment={'|'.join(presets)}"] if presets else [])])


def take(kind: str, known: Sequence[str], arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Split `kind=value` (value one of `known`) from the other arguments. Raises if it is missing or unknown."""
    values = [word.removeprefix(f"{kind}=") for word in arguments if word.startswith(f"{kind}=")]
    if not values:
        raise ConfigError(f"{kind}= is missing; one of: {', '.join(known)}")
    if values[-1] not in known:
        raise UnknownNameError(kind, values[-1], known)
    return values[-1], [word for word in arguments if not word.startswith(f"{kind}=")]


def sub_verb(verb: str, known: Sequence[str], arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The first word, which must be one of `known`, and the rest."""
    if not arguments or arguments[0] not in known:
        raise UnknownNameError(f"{verb} command", arguments[0] if arguments else "", known)
    return arguments[0], list(arguments[1:])


def _defaults(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            pairs += _defaults(value, f"{prefix}{field.name}.")
        else:
            pairs.append((f"{prefix}{field.name}", value))
    return pairs


def _show(value: Any) -> str:
    if value is None:
        return "null"
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
