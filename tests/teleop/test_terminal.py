"""Keys of a terminal, over a real pseudo terminal."""

import os
import pty
import time
from collections.abc import Iterator

import numpy as np
import pytest
from fake_arm import FakeArm, MemoryRecorder, tool_of

from emu_robot.control.safety import GateState
from emu_robot.teleop.desk import Desk, OrderKind
from emu_robot.teleop.loop import Loop
from emu_robot.teleop.session import Session, SessionConfig
from emu_robot.teleop.terminal import PULSE_S, Terminal, read_keys
from emu_robot.teleop.typed_line import TypedLine


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"wW", [("w", False), ("w", True)]),
        (b"\x1b", [("escape", False)]),
        (b"\x1b[D\x1b[Cn", [("left", False), ("right", False), ("n", False)]),
        (b"\x1b[5~d", [("d", False)]),
        (b"\x1b[1;2A\r\x7f", [("enter", False), ("backspace", False)]),
        (b"\xc3\xa41%", [("1", False)]),
        (b"\x1b[", []),
    ],
)
def test_keys_are_read_from_what_a_terminal_sends(data: bytes, keys: list[tuple[str, bool]]) -> None:
    assert read_keys(data) == keys


def test_digits_choose_the_joint_of_an_arm_that_moves_joint_by_joint() -> None:
    said: list[str] = []
    desk, (ours, theirs) = Desk(), pty.openpty()
    terminal = Terminal(desk, faces_arm=True, say=said.append, joints=6, fd=theirs)
    os.write(ours, b"73s")
    ends, samples = time.monotonic() + 10, []
    while time.monotonic() < ends and not samples:
        samples += [one for one in desk.take()[0] if one.pressed]
    assert (samples[0].wish.joint, samples[0].wish.share) == (2, -1.0)
    assert said == ["W and S move joint 3"]
    terminal.close()
    os.close(ours)
    os.close(theirs)


@pytest.fixture
def rig() -> Iterator[tuple[Loop, int, list[str]]]:
    said: list[str] = []
    desk, (ours, theirs) = Desk(), pty.openpty()
    session = Session(FakeArm(), desk, SessionConfig(countdown_s=0.0), recorder=MemoryRecorder())
    session.lay_scene(0, time.monotonic())
    loop = Loop(session, 30)
    loop.start()
    terminal = Terminal(desk, faces_arm=True, say=said.append, fd=theirs)
    time.sleep(0.5)
    yield loop, ours, said
    terminal.close()
    loop.stop()
    os.close(ours)
    os.close(theirs)


def place(loop: Loop) -> np.ndarray:
    view = loop.view
    assert view is not None
    return tool_of(view).position


def test_a_press_moves_a_little_and_then_holds_and_a_repeated_one_goes_on(rig: tuple[Loop, int, list[str]]) -> None:
    loop, keyboard, _ = rig
    os.write(keyboard, b"d")
    time.sleep(PULSE_S + 0.4)
    once = place(loop)[1]
    assert loop.view is not None and loop.view.gate is GateState.HOLDING
    assert 0.002 < once < 0.04
    for _ in range(20):
        os.write(keyboard, b"d")
        time.sleep(0.04)
    assert place(loop)[1] > once + 0.03
    time.sleep(PULSE_S + 0.4)
    still = place(loop)
    time.sleep(0.2)
    np.testing.assert_allclose(place(loop), still, atol=1e-6)


def test_orders_come_from_keys_and_escape_stops(rig: tuple[Loop, int, list[str]]) -> None:
    loop, keyboard, _ = rig
    os.write(keyboard, b"r")
    time.sleep(0.5)
    os.write(keyboard, b"\r")
    time.sleep(0.3)
    assert loop.view is not None and loop.view.committed == 1
    os.write(keyboard, b"d")
    time.sleep(0.05)
    os.write(keyboard, b"\x1b")
    time.sleep(0.3)
    assert loop.view.gate is GateState.FAULT
    os.write(keyboard, b"u")
    time.sleep(0.3)
    assert loop.view.gate is GateState.HOLDING


def test_a_typed_line_is_no_key_and_says_the_policys_subtask() -> None:
    said: list[str] = []
    desk, (ours, theirs) = Desk(), pty.openpty()
    terminal = Terminal(desk, faces_arm=True, say=said.append, fd=theirs)
    try:
        os.write(ours, "/subtask  öffne die x\x7fSchublade\r/sub\r/subtask\r".encode())
        time.sleep(0.5)
        os.write(ours, b"n")
        orders: list[tuple[OrderKind, str]] = []
        until = time.monotonic() + 20
        while len(orders) < 3 and time.monotonic() < until:
            time.sleep(0.05)
            orders += [(order.kind, order.text) for order in desk.take()[1]]
        assert orders == [
            (OrderKind.SUBTASK, "öffne die Schublade"),
            (OrderKind.SUBTASK, ""),
            (OrderKind.NEXT, ""),
        ]
        assert said == ["unknown command '/sub'; known: /subtask"]
        assert "öffne die" in os.read(ours, 1000).decode(), "what is typed is seen"
    finally:
        terminal.close()
        os.close(ours)
        os.close(theirs)


def test_escape_gives_a_line_up_and_stops_while_arrows_do_nothing_in_it() -> None:
    lines: list[str] = []
    typed = TypedLine(lambda text: None, lines.append)
    assert typed.feed(b"w/ab\x1b[D\x1b[Ccd\r") == b"w" and lines == ["/abcd"]
    assert typed.feed(b"/wasd\x1b") == b"\x1b"
    assert typed.feed(b"\x1b[Da") == b"\x1b[Da" and lines == ["/abcd"]
    assert typed.feed(b"/\x7fw") == b"w"
