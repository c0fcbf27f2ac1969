"""Orders that a person types or a program pipes in, one a line. A thread reads them, so that the arm goes on."""

import math
import queue
import threading
from collections.abc import Callable
from typing import TextIO

from emu_robot.control.steering import Order, read_subtask

HELP = (
    "Type an instruction, and the arm follows it at once. An empty line or `stop` holds, `quit` ends,\n"
    "`wait 3` reads on after 3 s, `wait` when the instruction is done or its time is up. `/subtask WORDS` says the\n"
    "next subtask in place of the planner's, until it is reached; `/subtask` alone lets the planner choose again."
)


class TypedOrders:
    """Lines of a stream as orders. Its end quits: at once on a terminal, else when the instruction is over."""

    def __init__(self, stream: TextIO, control_hz: int, complain: Callable[[str], None] = print) -> None:
        """control_hz: ticks per second, for `wait`. complain: gets a line about a wrong one."""
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._control_hz, self._complain = control_hz, complain
        self._quits_at_end = stream.isatty()
        self._until = -math.inf
        threading.Thread(target=self._read, args=(stream,), name="orders", daemon=True).start()

    def _read(self, stream: TextIO) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put(None)

    def next(self, tick: int, *, is_over: bool) -> Order | None:
        """The order of this tick; one line is read in a tick, none while a `wait` lasts."""
        if tick < self._until and not (is_over and self._until == math.inf):
            return None
        self._until = -math.inf
        try:
            line = self._lines.get_nowait()
        except queue.Empty:
            return None
        if line is None:
            self._lines.put(None)
            return Order(quits=True) if is_over or self._quits_at_end else self._wait(math.inf)
        return self._order(tick, " ".join(line.split()))

    def _order(self, tick: int, text: str) -> Order | None:
        if (subtask := read_subtask(text)) is not None:
            return Order(subtask=subtask)
        match text.casefold().split():
            case [] | ["stop"]:
                return Order()
            case ["quit"]:
                return Order(quits=True)
            case ["wait"]:
                return self._wait(math.inf)
            case ["wait", number]:
                return self._wait(tick + self._ticks(number))
            case _:
                return Order(text)

    def _wait(self, until: float) -> None:
        self._until = until

    def _ticks(self, number: str) -> float:
        try:
            seconds = float(number)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            self._complain(f"wait takes a number of seconds, for instance `wait 3`, not {number!r}")
            return 0
        return seconds * self._control_hz
