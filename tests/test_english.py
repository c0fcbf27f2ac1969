"""Texts of the project avoid words that made readers stop. What a sentence says well no test can tell."""

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
RIDDLES = re.compile(r"\b(anew|nobody|whoever|whatever|wherever)\b", re.IGNORECASE)
TEXTS = ("*.md", "*.j2", "*.msg", "*.srv", "*.action", "*.yaml", "Makefile")


def tracked(*patterns: str) -> list[Path]:
    """Files of the project, without the tests."""
    listed = subprocess.run(["git", "ls-files", *patterns], capture_output=True, text=True, check=True, cwd=ROOT)
    return [ROOT / name for name in listed.stdout.split("\n") if name and not name.startswith("tests/")]


def test_texts_avoid_riddling_words() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{number}": line.strip()
        for path in tracked("*.py", *TEXTS)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if RIDDLES.search(line)
    }
    assert not found


def test_docstrings_name_the_thing_first() -> None:
    found = []
    for path in tracked("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Expr(value=ast.Constant(value=str(words))) if words.startswith("Of "):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {words.splitlines()[0]}")
    assert not found
