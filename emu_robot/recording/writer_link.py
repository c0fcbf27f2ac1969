"""The link to the process that writes. Orders wait in a bounded queue; sending them never blocks the caller."""

import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from emu_robot.recording.messages import Close, News, Order

WRITER = "emu_robot.data.session_writer"
"""The writer's module; it needs LeRobot, which this process does not load."""

QUIET = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "PYTHONWARNINGS": "ignore"}
"""The operator's terminal is not for LeRobot's progress bars, nor for the warning that they are off."""


class WriterLink:
    """Starts the writer and carries orders to it and news back. The writer ends when this process ends or closes."""

    def __init__(self, on_news: Callable[[News], None], on_end: Callable[[], None], queue_bytes: int) -> None:
        """on_news, on_end: called in a thread of the link; the latter when the writer has ended."""
        ours, theirs = Pipe()
        os.set_inheritable(theirs.fileno(), True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", WRITER, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the operator's process, which ends this one in order
            env=os.environ | QUIET | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, _paths()))},
        )
        theirs.close()
        self._link, self._on_news, self._on_end, self._queue_bytes = ours, on_news, on_end, queue_bytes
        self._orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._waiting, self._lock = 0, threading.Lock()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def send(self, order: Order, *, must_fit: bool = False) -> bool:
        """Queue an order, copied. False if `must_fit` and it does not fit into the queue."""
        content = pickle.dumps(order, protocol=5)
        with self._lock:
            if must_fit and self._waiting + len(content) > self._queue_bytes:
                return False
            self._waiting += len(content)
        self._orders.put(content)
        return True

    def close(self) -> None:
        """Wait until the writer has done all orders and ended."""
        self.send(Close())
        self.process.wait()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        closing = pickle.dumps(Close(), protocol=5)
        while True:
            content = self._orders.get()
            try:
                self._link.send_bytes(content)
            except OSError:  # the writer has ended; `_receive` tells it
                return
            with self._lock:
                self._waiting -= len(content)
            if content == closing:
                return

    def _receive(self) -> None:
        try:
            while True:
                self._on_news(self._link.recv())
        except (EOFError, OSError):
            self._on_end()
            self._orders.put(pickle.dumps(Close(), protocol=5))  # wakes the sender


def read_orders(link: Connection) -> Order:
    """The next order, in the writer. Raises `EOFError` once the other process has ended."""
    return pickle.loads(link.recv_bytes())


def _paths() -> list[Path | str]:
    """Where the writer finds the same packages as this process."""
    package = Path(__file__).resolve().parents[2]
    return [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
