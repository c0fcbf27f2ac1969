"""Runs a session in a thread on its own clock, and shows its views to pages."""

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from emu_robot.teleop.session import Session
from emu_robot.teleop.view import View

REMEMBERED = 600
"""Number of the last periods from which rates are computed."""


class Loop:
    """Ticks a session until it is stopped. A late tick delays the ones after it; none is made up for."""

    def __init__(self, session: Session, rate_hz: float) -> None:
        self._session, self._period = session, 1.0 / rate_hz
        self._lock, self._ends = threading.Lock(), threading.Event()
        self._view: View | None = None
        self._watchers: list[Callable[[], None]] = []
        self._periods: deque[float] = deque(maxlen=REMEMBERED)
        self.error: Exception | None = None
        """What ended the loop; None while it runs, and after `stop`."""
        self._thread = threading.Thread(target=self._run, name="teleop", daemon=True)

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the session is ticked."""
        return self._thread.is_alive()

    @property
    def view(self) -> View | None:
        """The view of the last tick; None before the first."""
        with self._lock:
            return self._view

    def watch(self, on_tick: Callable[[], None]) -> None:
        """Call `on_tick` after every tick, in the loop's thread; it must return at once."""
        with self._lock:
            self._watchers.append(on_tick)

    def unwatch(self, on_tick: Callable[[], None]) -> None:
        """End `watch`."""
        with self._lock:
            self._watchers.remove(on_tick)

    def periods(self) -> np.ndarray:
        """The last periods between ticks [s]."""
        with self._lock:
            return np.array(self._periods)

    def forget_periods(self) -> None:
        """Begin to measure periods again."""
        with self._lock:
            self._periods.clear()

    def stop(self) -> None:
        """End after the running tick."""
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            due = before = time.monotonic()
            while not self._ends.is_set():
                now = time.monotonic()
                view = self._session.tick(now)
                with self._lock:
                    self._view = view
                    self._periods.append(now - before)
                    watchers = list(self._watchers)
                for on_tick in watchers:
                    on_tick()
                before, due = now, max(due + self._period, time.monotonic())
                self._ends.wait(max(due - time.monotonic(), 0.0))
        except Exception as error:  # the page and the command line show it; the arm's driver holds by its own timeout
            self.error = error
