"""docs/SAFETY.md names tests that exist, and parts of the gate that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/SAFETY.md").read_text()


def test_every_test_that_the_page_names_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    existing = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }
    assert len(named) > 40 and named - existing == set()


def test_every_row_of_the_table_names_a_test():
    table = PAGE.partition("## What fails")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 25 and [row for row in rows if "`test_" not in row] == []


def test_every_part_of_the_gate_is_named():
    parts = {path.stem for path in (ROOT / "emu_robot/control/safety").glob("*.py")} - {"__init__", "config"}
    assert parts == set(re.findall(r"`(\w+)`", PAGE.partition("Its parts are")[2].partition("\n\n")[0])) - {"emu_robot"}
