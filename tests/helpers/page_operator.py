"""An operator at the page's websocket, without a browser."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from websockets.sync.client import connect

EVERY_S = 0.04


class PageOperator:
    """Sends what `pressed` and `wish` say, again and again. view: the last one that the page was sent. resumes: whether
    `wait` resumes an arm that counted as lost because this machine stood still."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._socket = connect(f"ws://{place.netloc}/ws", origin=f"http://{place.netloc}", max_size=None)  # type: ignore[arg-type]
        self._lock, self._ends = threading.Lock(), threading.Event()
        self.pressed, self.wish, self.view = False, {}, {}
        self.refused: list[str] = []
        self.resumes = True
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._send, self._hear)]
        for thread in self._threads:
            thread.start()

    def order(self, kind: str, text: str = "") -> None:
        with self._lock:
            self._socket.send(json.dumps({"order": kind, "text": text}))

    def wait(self, until: Callable[[dict[str, Any]], bool], what: str, seconds: float = 40.0) -> dict[str, Any]:
        """Wait for a view. A deadman that must be released is released and pressed again."""
        ends = time.monotonic() + seconds
        while not (self.view and until(self.view)):
            assert time.monotonic() < ends, f"{what}: {self.view}"
            if self.pressed and "release" in self.view.get("reason", ""):
                self.pressed = False
                time.sleep(0.3)
                self.pressed = True
            if self.resumes and self.view.get("gate") == "disarmed":
                self.order("resume")
                time.sleep(0.3)
            time.sleep(0.02)
        return self.view

    def close(self) -> None:
        self._ends.set()
        self._threads[0].join(5)
        self._socket.close()
        self._threads[1].join(5)

    def _send(self) -> None:
        while not self._ends.wait(EVERY_S):
            with self._lock:
                self._socket.send(json.dumps({"drive": {"pressed": self.pressed, **self.wish}}))

    def _hear(self) -> None:
        for message in self._socket:
            if isinstance(message, str):
                told = json.loads(message)
                self.view = told.get("view", self.view)
                self.refused += [told["refused"]] if "refused" in told else []
