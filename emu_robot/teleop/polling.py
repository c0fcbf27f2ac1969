"""Asks a device again and again in a thread of its own, and knows since when it does not answer."""

import threading
import time
from collections.abc import Callable

LOST_S = 1.0
"""Silence after which a device counts as lost [s]."""
RETRY_S = 0.1
"""Time between two tries of a device that fails [s]."""
GONE_S = 3.0
"""Longest wait for the thread to end [s]."""
LONGEST = 200
"""Characters of a driver's error that are shown."""


class Polling:
    """Calls `ask` at a rate until it is closed. What `ask` raises counts as no answer."""

    def __init__(self, name: str, ask: Callable[[], None], *, hz: float) -> None:
        """name: what the device is called in words. hz: calls per second at most; `soon` adds others."""
        self._name, self._ask, self._period = name, ask, 1.0 / hz
        self._soon, self._ends = threading.Event(), threading.Event()
        self._answered_at, self._why = time.monotonic(), ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._answered_at = time.monotonic()
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why there has been no answer for `LOST_S`; empty while there is."""
        if time.monotonic() - self._answered_at < LOST_S:
            return ""
        return f"{self._name} does not answer" + (f": {self._why}" if self._why else "")

    def soon(self) -> None:
        """Ask at once."""
        self._soon.set()

    def close(self) -> None:
        """End after the running call."""
        self._ends.set()
        self._soon.set()
        if self._thread.is_alive():
            self._thread.join(GONE_S)

    def _run(self) -> None:
        while not self._ends.is_set():
            self._soon.clear()
            began = time.monotonic()
            try:
                self._ask()
                self._answered_at, self._why = time.monotonic(), ""
            except Exception as error:  # drivers raise all kinds; the operator reads it, and the arm holds
                self._why = one_line(error)
                self._ends.wait(RETRY_S)
            self._soon.wait(max(began + self._period - time.monotonic(), 0.0))


def one_line(error: BaseException) -> str:
    """A driver's error in one line."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= LONGEST else f"{words[:LONGEST]} ..."
