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
        self._orders: queue.SimpleQueue[_Packed | None] = queue.SimpleQueue()
        self._waiting, self._lock = 0, threading.Lock()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def send(self, order: Order, *, must_fit: bool = False) -> bool:
        """Queue an order, whose arrays must not change afterwards. False if `must_fit` and the queue has no room."""
        packed = _Packed(order)
        with self._lock:
            if must_fit and self._waiting + packed.n_bytes > self._queue_bytes:
                return False
            self._waiting += packed.n_bytes
        self._orders.put(packed)
        return True

    def close(self) -> None:
        """Wait until the writer has done all orders and ended."""
        self.send(Close())
        self._orders.put(None)
        self.process.wait()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        while (packed := self._orders.get()) is not None:
            try:
                for part in packed.parts:
                    self._link.send_bytes(part)
            except OSError:  # the writer has ended; `_receive` tells it
                return
            with self._lock:
                self._waiting -= packed.n_bytes

    def _receive(self) -> None:
        try:
            while True:
                self._on_news(self._link.recv())
        except (EOFError, OSError):
            self._on_end()
            self._orders.put(None)  # wakes the sender


class _Packed:
    """An order as bytes: how many arrays follow, the order without them, and the arrays, which are not copied."""

    def __init__(self, order: Order) -> None:
        arrays: list[pickle.PickleBuffer] = []
        order_bytes = pickle.dumps(order, protocol=5, buffer_callback=arrays.append)
        self.parts = [bytes([len(arrays)]) + order_bytes, *(array.raw() for array in arrays)]
        self.n_bytes = sum(map(len, self.parts))


def read_orders(link: Connection) -> Order:
    """The next order, in the writer. Raises `EOFError` once the other process has ended, be it within an order."""
    try:
        content = link.recv_bytes()
        arrays = [link.recv_bytes() for _ in range(content[0])]
        return pickle.loads(memoryview(content)[1:], buffers=arrays)
    except OSError as error:
        raise EOFError from error


def _paths() -> list[Path | str]:
    """Where the writer finds the same packages as this process."""
    package = Path(__file__).resolve().parents[2]
    return [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
