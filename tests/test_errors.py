"""What messages of errors may hold."""

import pytest

from emu_robot.errors import LONGEST, DataError, ShapeError, UnknownNameError


@pytest.mark.parametrize("name", ["two\nlines", "a\rb", "tab\there", "\x1b[31mred", "\ud800", "\u2028"])
def test_a_message_is_one_printable_line(name: str):
    for error in (DataError(f"{name} is missing"), UnknownNameError("camera", name, [name]), ShapeError(name, 1, 2)):
        assert str(error).isprintable()
        assert str(error).encode()


def test_a_message_keeps_its_words():
    assert str(DataError("Größe „1 m“ is wrong")) == "Größe „1 m“ is wrong"
    assert str(DataError("a\nb\0")) == r"a b\x00"


def test_a_message_is_not_endless():
    assert len(str(DataError("x" * 100_000))) == LONGEST + 3
