"""Settings as dataclasses: numbers carry their range, and the docstring below a field describes it."""

import ast
import inspect
import math
import textwrap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import field, fields, is_dataclass
from functools import cache
from numbers import Real
from typing import Any

from emu_robot.errors import ConfigError, InvalidValueError


def number(
    default: float | None,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: float = -math.inf,
    below: float = math.inf,
) -> Any:
    """A dataclass field with a range for `check_ranges`: in [low, high], and strictly between `above` and `below`."""
    return field(default=default, metadata={"low": low, "high": high, "above": above, "below": below})


def check_ranges(settings: Any, prefix: str = "") -> None:
    """Check every `number` field of a dataclass instance. None is allowed if it is the default.

    Raises `InvalidValueError` naming the first field that is no number, not finite, or out of range.
    """
    for setting in fields(settings):
        value, limits = getattr(settings, setting.name), setting.metadata
        if "low" not in limits or (value is None and setting.default is None):
            continue
        name = f"{prefix}.{setting.name}" if prefix else setting.name
        if isinstance(value, bool) or not isinstance(value, Real):
            raise InvalidValueError(f"{name} is {value!r}, must be a number")
        inside = limits["low"] <= value <= limits["high"] and limits["above"] < value < limits["below"]
        if not math.isfinite(value) or not inside:
            raise InvalidValueError(f"{name} is {value}, must {range_text(limits) or 'be finite'}")
        if isinstance(setting.default, int) and not float(value).is_integer():
            raise InvalidValueError(f"{name} is {value}, must be a whole number")


def range_text(limits: Mapping[str, float]) -> str:
    """The range in a `number` field's metadata: "lie in [0, 1]", "be at least 1 and below 5"; "" if it has none."""
    low, high, above, below = (limits.get(name, math.inf) for name in ("low", "high", "above", "below"))
    if math.isfinite(low) and math.isfinite(high):
        return f"lie in [{low:.15g}, {high:.15g}]"
    bounds = (("at least", low), ("above", above), ("at most", high), ("below", below))
    said = [f"{word} {bound:.15g}" for word, bound in bounds if math.isfinite(bound)]
    return f"be {' and '.join(said)}" if said else ""


def check_effects(settings: Any, given: Collection[str]) -> None:
    """Raise `ConfigError` for the first of the `given` dotted keys that has no effect with the other values.

    Dataclasses name such keys by a method `without_effect() -> dict[str, str]`: key, or prefix of keys -> reason.
    """
    for idle, why in _without_effect(settings):
        for key in given:
            if key == idle or key.startswith(f"{idle}."):
                raise ConfigError(f"{key} has no effect: {why}")


def _without_effect(settings: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys without effect, of a dataclass and those in it, each with the reason."""
    if hasattr(settings, "without_effect"):
        yield from ((f"{prefix}{key}", why) for key, why in settings.without_effect().items())
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if is_dataclass(value):
            yield from _without_effect(value, f"{prefix}{setting.name}.")


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
