"""Dataclasses from the plain values of a file, with checked types: one line for each fault."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any

from emu_robot.errors import EmuRobotError, InvalidValueError


def build[T](schema: type[T], values: Any, source: str) -> T:
    """A dataclass from values of JSON or YAML, with checked types and keys; nested dataclasses are built, too.

    source: the file and the place in it. The dataclass itself checks ranges. Raises `InvalidValueError` naming source
    and field.
    """
    if not isinstance(values, Mapping):
        raise InvalidValueError(f"{source} is {short(values)}, must be a table")
    hints = _hints(schema)
    unknown = sorted(str(name) for name in set(values) - set(hints))
    if unknown:
        raise InvalidValueError(f"{source}: unknown field {short(unknown[0])}; known: {', '.join(hints)}")
    built = {}
    for setting in dataclasses.fields(typing.cast(Any, schema)):
        if setting.name in values:
            built[setting.name] = _typed(hints[setting.name], values[setting.name], f"{source}: {setting.name}")
        elif setting.default is dataclasses.MISSING and setting.default_factory is dataclasses.MISSING:
            raise InvalidValueError(f"{source} lacks {setting.name}")
    try:
        return schema(**built)
    except EmuRobotError as error:
        raise InvalidValueError(f"{source}: {error}") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InvalidValueError(f"{source} describes nothing that can be built: {first_line(error)}") from error


_hints = cache(typing.get_type_hints)


def _typed(hint: Any, value: Any, source: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, source)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None and types.NoneType in inner else _typed(inner[0], value, source)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise InvalidValueError(f"{source} is {short(value)}, must be a list")
        each = inner if origin is tuple and inner[-1] is not Ellipsis else (inner[0],) * len(value)
        if len(each) != len(value):
            raise InvalidValueError(f"{source} is {short(value)}, must be a list of {len(each)}")
        return origin(_typed(kind, one, source) for kind, one in zip(each, value, strict=True))
    if isinstance(hint, type) and issubclass(hint, Enum):
        if value not in [member.value for member in hint]:
            known = ", ".join(str(member.value) for member in hint)
            raise InvalidValueError(f"{source} is {short(value)}, must be one of {known}")
        return hint(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    wanted = origin or hint
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise InvalidValueError(f"{source} is {short(value)}, must be of type {wanted.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidValueError(f"{source} is {value}, must be finite")
    return value


def short(value: Any) -> str:
    """A value's repr, cut at 60 characters."""
    said = repr(value)
    return said if len(said) <= 60 else said[:57] + "..."


def whole_number(text: str) -> int:
    """A whole number of JSON. Raises `ValueError` for one beyond floats, which no setting or measured value is."""
    if abs(value := int(text)) >= 2**1023:
        raise ValueError(f"{text[:20]}... is too large")
    return value


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut at 200 characters; its type without one. Names a missing key."""
    if isinstance(error, KeyError):
        return f"no {short(error.args[0] if error.args else None)}"
    return str(error).split("\n")[0][:200] or type(error).__name__
