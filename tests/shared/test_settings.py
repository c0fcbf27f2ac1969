"""Ranges and descriptions of settings."""

from dataclasses import dataclass

import pytest

from emu_robot.errors import InvalidValueError
from emu_robot.shared.settings import check_ranges, field_docs, number


@dataclass(kw_only=True)
class Base:
    """A base class."""

    rate: float = number(20.0, 1.0, 100.0)
    """Control rate
    [Hz]."""
    bare: str = "text"


@dataclass(kw_only=True)
class Settings(Base):
    """Settings with an inherited field."""

    count: int = number(2, 1)
    """How many."""
    limit: float | None = number(None, 0.0)
    """Upper bound; null for none."""
    share: float = number(0.5, above=0, below=1)
    """A share."""


def test_every_field_is_described_by_the_docstring_below_it():
    assert field_docs(Settings) == {
        "rate": "Control rate [Hz].",
        "bare": "",
        "count": "How many.",
        "limit": "Upper bound; null for none.",
        "share": "A share.",
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rate": 0.5}, r"eval.rate is 0.5, must lie in \[1, 100\]"),
        ({"rate": float("nan")}, "eval.rate is nan"),
        ({"rate": float("inf")}, "eval.rate is inf"),
        ({"rate": "20"}, "eval.rate is '20', must be a number"),
        ({"rate": None}, "eval.rate is None, must be a number"),
        ({"rate": True}, "eval.rate is True, must be a number"),
        ({"count": 0}, "eval.count is 0, must be at least 1"),
        ({"count": 1.5}, "eval.count is 1.5, must be a whole number"),
        ({"share": 0}, "eval.share is 0, must be above 0 and below 1"),
        ({"share": 1.0}, "eval.share is 1.0, must be above 0 and below 1"),
        ({"limit": -1.0}, "eval.limit is -1.0, must be at least 0"),
    ],
)
def test_a_value_out_of_its_range_is_named(changes: dict, said: str):
    with pytest.raises(InvalidValueError, match=said):
        check_ranges(Settings(**changes), "eval")


def test_values_in_range_pass():
    check_ranges(Settings(rate=100, count=1, limit=None))
