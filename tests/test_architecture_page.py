"""docs/architecture.md names files and functions that exist, and the tested levels; its walks enter no room twice."""

import ast
import re
from itertools import groupby
from pathlib import Path

import pytest
from test_imports import LEVELS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text()
FOLDERS = {"emu_robot_ros": "ros_ws/src/emu_robot_ros", "emu_sim": "sim"}
"""Where packages beside emu_robot lie."""
WALKS = dict(re.findall(r"^## (\d)\. .*?\n(.*?)(?=^## )", PAGE, re.M | re.S))


def place(name: str) -> Path:
    """The file that the page means."""
    return ROOT / FOLDERS.get(name.partition("/")[0], "emu_robot") / name


def rows(walk: str) -> list[tuple[str, list[str]]]:
    """File and names of every step."""
    cells = [line.split(" | ") for line in WALKS[walk].splitlines() if line.startswith("| `")]
    return [(cell[0].strip("| `"), re.findall(r"`([\w.]+)`", cell[1])) for cell in cells]


def defined(file: Path) -> set[str]:
    """Classes, functions, and `Class.method` of a file."""
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


def test_every_file_that_the_page_names_exists() -> None:
    named = re.findall(r"`([\w/]+/\w+\.py)`", PAGE)
    assert len(named) > 30
    assert [name for name in named if not place(name).is_file() and not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("walk", ["1", "2", "3"])
def test_every_step_names_what_its_file_defines(walk: str) -> None:
    assert len(rows(walk)) >= 10
    for file, names in rows(walk):
        assert names and set(names) <= defined(place(file)), (file, names)


def test_every_name_in_the_text_is_in_a_step_or_in_the_core() -> None:
    known = {name for walk in WALKS for file, _ in rows(walk) for name in defined(place(file))}
    known |= defined(ROOT / "emu_robot/core.py") | {"Subgoal"}
    for name in re.findall(r"`([A-Z]\w*[a-z]\w*(?:\.\w+)?)`", PAGE):
        assert name in known, name


@pytest.mark.parametrize("walk", ["1", "2", "3"])
def test_no_walk_enters_a_room_twice(walk: str) -> None:
    own = [file for file, _ in rows(walk) if (ROOT / "emu_robot" / file).is_file()]
    entered = [room for room, _ in groupby(Path(file).parent.as_posix() if "/" in file else file for file in own)]
    assert len(entered) == len(set(entered)) > 1, entered


def test_levels_are_those_of_the_import_test() -> None:
    table = PAGE.partition("## Levels")[2]
    told = re.findall(r"^\| (\w+) \| (`[^|]*) \|", table, re.M)
    assert [(name, re.findall(r"`(\w+)`", rooms)) for name, rooms in told] == [
        (name, list(rooms)) for name, (_, rooms) in LEVELS.items()
    ]
