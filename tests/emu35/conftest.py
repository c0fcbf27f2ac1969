"""A checkpoint of the official form, and its text tokenizer."""

from pathlib import Path

import pytest
from official_checkpoint import make_checkpoint, write_text

from emu_robot.emu35.text import Emu3Text


@pytest.fixture
def text(tmp_path: Path) -> Emu3Text:
    write_text(tmp_path)
    return Emu3Text.load(tmp_path)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "emu")
