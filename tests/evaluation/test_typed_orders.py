"""Lines of a terminal and of a pipe become orders."""

import os
import pty
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from emu_robot.control.steering import Order
from emu_robot.evaluation.typed_orders import TypedOrders

QUIT, HOLD = Order(quits=True), Order()


@contextmanager
def written(text: str, *, terminal: bool = False) -> Iterator[TextIO]:
    """A stream from which the text can be read; a pipe ends after it, a terminal at Ctrl-D."""
    ours, theirs = pty.openpty() if terminal else reversed(os.pipe())
    os.write(ours, text.encode())
    if not terminal:
        os.close(ours)
    with open(theirs) as stream:
        yield stream
    if terminal:
        os.close(ours)


def read(stream: TextIO, n_lines: int, complain: Callable[[str], None] = print) -> TypedOrders:
    """The orders, once the thread has read all lines and the end."""
    typed, deadline = TypedOrders(stream, 20, complain), time.monotonic() + 20
    while typed._lines.qsize() <= n_lines and time.monotonic() < deadline:
        time.sleep(0.005)
    return typed


def orders(typed: TypedOrders, over: tuple[int, ...] = ()) -> list[tuple[int, Order]]:
    """(tick, order) until one quits. over: ticks at which the present instruction is over."""
    found: list[tuple[int, Order]] = []
    for tick in range(100):
        order = typed.next(tick, is_over=tick in over)
        if order is not None:
            found.append((tick, order))
            if order.quits:
                return found
    return found


def test_a_pipe_gives_one_order_a_tick_and_waits_when_told():
    text = "open the drawer\nwait 0.5\n  close   the drawer \nstop\n\nWAIT 0.1\nQuit\nnever\n"
    with written(text) as stream:
        found = orders(read(stream, 8))
    assert found == [(0, Order("open the drawer")), (11, Order("close the drawer")), (12, HOLD), (13, HOLD), (16, QUIT)]


def test_wait_alone_and_the_end_of_a_pipe_let_the_instruction_finish():
    with written("a\nwait\nb\n") as stream:
        assert orders(read(stream, 3), over=(30, 50)) == [(0, Order("a")), (30, Order("b")), (50, QUIT)]


def test_a_wrong_number_is_told_and_skipped():
    told: list[str] = []
    with written("wait soon\nwait -1\na\n") as stream:
        assert orders(read(stream, 3, told.append)) == [(2, Order("a"))]
    assert [line.rpartition("not ")[2] for line in told] == ["'soon'", "'-1'"]


def test_a_terminal_ends_at_once():
    with written("put it back\n\x04", terminal=True) as stream:
        assert [order for _, order in orders(read(stream, 1))] == [Order("put it back"), QUIT]


def test_a_line_says_the_next_subtask_or_takes_it_back():
    with written("/subtask  open   the drawer\n/Subtask\n/subtasks\nquit\n") as stream:
        found = [order for _, order in orders(read(stream, 4))]
    assert found == [Order(subtask="open the drawer"), Order(subtask=""), Order("/subtasks"), QUIT]
