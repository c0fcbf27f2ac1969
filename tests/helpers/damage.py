"""Damaged files for tests: values of JSON put in for others, cut or turned bytes, and what a reader says of them."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emu_robot.errors import EmuRobotError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([0, 1, 2, -1, 10**9, 10**400, 1e300, 2**63]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
EDITS = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 40)), min_size=1, max_size=4)


@dataclass(frozen=True)
class Reader:
    """A file from outside and what reads it."""

    file: str
    """Relative to the folder of whole files."""
    read: Callable[[Path], object]
    """Reads it, from the folder of whole files."""
    after: Callable[[Path], object] = lambda _: None
    """Called after damage and mending, to make right what depends on the file, such as hashes."""
    shown: int = 25
    """Damages of a quick test."""
    many: int = 10_000
    """Damages of a slow one."""


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """The content with some bytes put in for others; of JSON or JSON lines half of the time with other values."""
    lines = _json_lines(good)
    if not lines or draw(st.booleans()):
        for share, put, count in draw(EDITS):
            at = int(share * len(good))
            good = good[:at] + put + good[at + count :]
        return good
    lines = deepcopy(lines)
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, lines, draw(st.integers(0, len(lines) - 1)))
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _json_lines(content: bytes) -> list[Any]:
    """The one value of a JSON file, or those of JSON lines; empty for another file."""
    for parts in ([content], content.splitlines()):
        try:
            return [json.loads(part) for part in parts]
        except ValueError:
            continue
    return []


def _change(draw: st.DrawFn, part: Any, place: Any) -> None:
    """Replace, remove or add a value at a place of a list or table, or somewhere in what is there."""
    inner = part[place]
    places = list(inner) if isinstance(inner, dict) else list(range(len(inner))) if isinstance(inner, list) else []
    if places and draw(st.integers(0, 4)):
        return _change(draw, inner, draw(st.sampled_from(places)))
    what = draw(st.sampled_from(["replace", "remove", "add", "repeat"]))
    if what == "remove" and isinstance(part, dict):
        del part[place]
    elif what == "add" and isinstance(part, dict):
        part[draw(st.text(max_size=5))] = draw(VALUES)
    elif what == "repeat" and isinstance(inner, list):
        part[place] = inner * draw(st.integers(2, 5))
    else:
        part[place] = draw(VALUES)
    return None


def fuzz(reader: Reader, whole: Path, examples: int) -> None:
    """Each of so many damages is read, or refused in one line; then the file is whole again."""
    path = whole / reader.file
    good = path.read_bytes()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(damaged(good))
    def run(content: bytes) -> None:
        path.write_bytes(content)
        try:
            reader.after(whole)
            reader.read(whole)
        except EmuRobotError as error:
            assert str(error) and "\n" not in str(error)
            assert len(str(error)) < 5000

    try:
        run()
    finally:
        path.write_bytes(good)
        reader.after(whole)
