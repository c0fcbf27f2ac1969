"""The README's tree names every room, and nothing that is not there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREE = (ROOT / "README.md").read_text().partition("## What is where")[2].split("```")[1]
PACKAGE = TREE.partition("emu_robot/\n")[2].partition("\nros_ws/")[0]


def test_every_room_is_in_the_tree() -> None:
    named = set(re.findall(r"^  ([\w/]+)/ ", PACKAGE, re.M))
    rooms = {path.relative_to(ROOT / "emu_robot").parts[0] for path in (ROOT / "emu_robot").glob("*/**/*.py")}
    assert named - {"weights/mini"} == rooms and (ROOT / "emu_robot/weights/mini").is_dir()


def test_rooms_within_rooms_are_there() -> None:
    within = re.findall(r"^  (\w+)/ .*\n    (\w+)/ ", PACKAGE, re.M)
    assert within and all((ROOT / "emu_robot" / outer / inner).is_dir() for outer, inner in within)


def test_every_module_at_the_root_is_in_the_tree() -> None:
    assert set(re.findall(r"(\w+)\.py", PACKAGE)) == {path.stem for path in (ROOT / "emu_robot").glob("*.py")}


def test_folders_at_the_top_are_there() -> None:
    named = re.findall(r"^([\w/]+)/ ", TREE, re.M)
    assert len(named) > 5 and all((ROOT / name).is_dir() for name in named)
