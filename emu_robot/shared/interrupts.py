"""SIGINT and SIGTERM: work ends at the next moment at which nothing is lost; a second signal ends it at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

type Handlers = dict[signal.Signals, Any]
"""Signal -> its handler, as `signal.signal` takes it."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the work. The command line prints the message and exits with 128 + `number`."""

    def __init__(self, number: int, message: str = "interrupted") -> None:
        super().__init__(message)
        self.number = number


class StopRequest:
    """Whether a signal asked the work to stop."""

    number: int | None = None
    """The signal; None while there was none."""

    def obey(self, message: str) -> None:
        """Raise `Interrupted` if there was a signal. message: what was done, and how it goes on."""
        if self.number is not None:
            raise Interrupted(self.number, message)


@contextmanager
def stop_request(finishing: str) -> Iterator[StopRequest]:
    """Within the block the first SIGINT or SIGTERM only sets the request. The next one acts as it did before the block.

    finishing: what is finished first, for the line that the signal prints. Other threads than the main one get no
    signal, and a signal that is ignored stays so.
    """
    request = StopRequest()

    def note(number: int, _frame: FrameType | None) -> None:
        request.number = number
        _install(before)
        line = f"{signal.Signals(number).name}: {finishing} first; a second signal stops at once\n"
        os.write(2, line.encode())  # a signal may come within a print, which must not begin another

    before = _install(dict.fromkeys(SIGNALS, note))
    try:
        yield request
    finally:
        _install(before)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block the first SIGINT or SIGTERM raises `Interrupted`; a second one ends the process."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        _install(dict.fromkeys(before, signal.SIG_DFL))
        raise Interrupted(number)

    before = _install(dict.fromkeys(SIGNALS, interrupt))
    try:
        yield
    finally:
        _install(before)


@contextmanager
def children_without_interrupts() -> Iterator[None]:
    """Processes started within the block never see SIGINT, so that Ctrl-C reaches their parent alone."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _install(handlers: Handlers) -> Handlers:
    """Install these handlers where the signal is not ignored. Returns those before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    ignored = {number for number in handlers if signal.getsignal(number) in (signal.SIG_IGN, None)}
    return {number: signal.signal(number, handler) for number, handler in handlers.items() if number not in ignored}
