"""Settings as dataclasses: numbers carry their range, every field is described by the docstring below it."""

import ast
import inspect
import math
import textwrap
from dataclasses import field, fields, is_dataclass
from functools import cache
from numbers import Real
from typing import Any

from emu_robot.errors import InvalidValueError


def number(default: float | None, low: float = -math.inf, high: float = math.inf) -> Any:
    """A dataclass field that `check_ranges` holds to [low, high]."""
    return field(default=default, metadata={"low": low, "high": high})


def check_ranges(settings: Any, prefix: str = "") -> None:
    """Check every `number` field of a dataclass instance. None is allowed where it is the default.

    Raises `InvalidValueError` naming the first field that is no number, not finite, or out of its range.
    """
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if "low" not in setting.metadata or (value is None and setting.default is None):
            continue
        low, high = setting.metadata["low"], setting.metadata["high"]
        name = f"{prefix}.{setting.name}" if prefix else setting.name
        if isinstance(value, bool) or not isinstance(value, Real):
            raise InvalidValueError(f"{name} is {value!r}, must be a number")
        if not math.isfinite(value) or not low <= value <= high:
            raise InvalidValueError(f"{name} is {value}, must {range_text(low, high)}")
        if isinstance(setting.default, int) and not float(value).is_integer():
            raise InvalidValueError(f"{name} is {value}, must be a whole number")


def range_text(low: float, high: float) -> str:
    """For instance "lie in [0, 1]" or "be at least 1"."""
    if math.isfinite(low) and math.isfinite(high):
        return f"lie in [{low:g}, {high:g}]"
    if math.isfinite(low):
        return f"be at least {low:g}"
    return f"be at most {high:g}" if math.isfinite(high) else "be finite"


@cache
def field_docs(schema: type) -> dict[str, str]:
    """Field name -> the docstring below it, on one line; "" where there is none. Inherited fields are included."""
    docs: dict[str, str] = dict.fromkeys((setting.name for setting in fields(schema)), "")
    for owner in reversed(schema.__mro__):
        if is_dataclass(owner):
            docs.update(_own_docs(owner))
    return docs


def _own_docs(owner: type) -> dict[str, str]:
    """The docstrings in the source of one class."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(definition, ast.ClassDef)
    docs: dict[str, str] = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            value = following.value if isinstance(following, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                docs[statement.target.id] = " ".join(value.value.split())
    return docs
