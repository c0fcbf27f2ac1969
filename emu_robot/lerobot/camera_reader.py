"""A camera of LeRobot's, read in a thread of its own."""

import time
from typing import Any

import numpy as np

from emu_robot.core import Image
from emu_robot.errors import SystemSetupError
from emu_robot.teleop.polling import Polling, one_line

WAIT_MS = 300.0
"""Longest wait for a picture [ms]."""
HZ = 200.0
"""Requests per second at most; the camera gives the pace [Hz]."""


class CameraReader:
    """Keeps the newest picture of a camera."""

    def __init__(self, name: str, camera: Any) -> None:
        """camera: LeRobot's, not connected."""
        self.name, self._camera = name, camera
        self.newest: tuple[Image, float] | None = None
        """The last picture, and when it came [s]; None before the first."""
        self._polling = Polling(f"camera {name}", self._read, hz=HZ)

    def start(self) -> None:
        """Connect the camera and begin to read. Raises `SystemSetupError`."""
        try:
            if not self._camera.is_connected:  # an arm of two arms has connected it with one of them
                self._camera.connect()
        except Exception as error:  # each kind of camera raises its own
            raise SystemSetupError(f"camera {self.name}: {one_line(error)}") from error
        self._polling.start()

    @property
    def trouble(self) -> str:
        """Why it does not answer; empty while it does."""
        return self._polling.trouble

    def close(self) -> None:
        """Let go of the camera."""
        self._polling.close()
        if self._camera.is_connected:
            self._camera.disconnect()

    def _read(self) -> None:
        picture = np.asarray(self._camera.async_read(timeout_ms=WAIT_MS))
        self.newest = (picture, time.monotonic())
