"""The memory of an emergency stop: a file that outlives the process."""

import fcntl
import os
from pathlib import Path
from typing import TextIO

from emu_robot.errors import InvalidValueError, SystemSetupError


class EstopLatch:
    """Keeps an emergency stop over restarts. The file exists while stopped; without a path the stop is in memory only.

    Only one latch may use a file: two arms with one file would clear each other's stops.
    Raises `SystemSetupError` if the file cannot be written, or if another latch uses it.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock: TextIO | None = None
        self.reason = ""
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self.reason = path.read_text(errors="replace").strip() or "stopped before a restart"
            self._lock = open(f"{path}.lock", "w")  # noqa: SIM115 - held until `close`
        except OSError as error:
            raise SystemSetupError(f"{path} cannot keep an emergency stop: {error}") from error
        self._take(path)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise SystemSetupError(f"{path} cannot keep an emergency stop: {path.parent} is not writable")

    def set(self, reason: str) -> None:
        """Stop, for `reason`. Raises `InvalidValueError` if the stop will not outlive this process.

        The file is written in place, not replaced: its existence is the stop, even if its content is lost.
        """
        self.reason = reason
        if self._path is not None:
            try:
                self._path.write_text(reason + "\n")
            except OSError as error:
                raise InvalidValueError(f"stopped, but not over a restart: {error}") from error

    def clear(self) -> None:
        """End the stop. Raises `InvalidValueError`, and stays stopped, if the file cannot be removed."""
        if self._path is not None:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                raise InvalidValueError(f"still stopped: {error}") from error
        self.reason = ""

    def close(self) -> None:
        """Release the file to another latch. A stop stays in it."""
        if self._lock is not None:
            self._lock.close()

    def _take(self, path: Path) -> None:
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise SystemSetupError(
                f"{path} keeps the emergency stop of another gate that runs: give each arm a namespace or an estop_file"
            ) from error
        except OSError as error:
            self._lock.close()
            raise SystemSetupError(f"{path} cannot keep an emergency stop: {error}") from error
