"""A camera as a plugin brings one to LeRobot: it paints stripes that move, at its own pace."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from lerobot.cameras import Camera, CameraConfig


@CameraConfig.register_subclass("painted")
@dataclass(kw_only=True)
class PaintedConfig(CameraConfig):
    """Size and rate come from LeRobot's own settings."""


class Painted(Camera):
    """alive: whether it gives pictures."""

    alive = True

    def __init__(self, config: PaintedConfig) -> None:
        super().__init__(config)
        self._connected = False

    @property
    def is_connected(self) -> bool:
        return self._connected

    @staticmethod
    def find_cameras() -> list[dict[str, Any]]:
        return []

    def connect(self, warmup: bool = True) -> None:
        self._connected = True

    def read(self) -> np.ndarray:
        if not self.alive:
            raise TimeoutError("no picture")
        assert self.width and self.height
        row = (np.arange(self.width) + int(30 * time.monotonic())) % 32 * 8
        return np.broadcast_to(row[None, :, None], (self.height, self.width, 3)).astype(np.uint8)

    def async_read(self, timeout_ms: float = 200) -> np.ndarray:
        assert self.fps
        time.sleep(1 / self.fps)
        return self.read()

    def read_latest(self, max_age_ms: int = 500) -> np.ndarray:
        return self.read()

    def disconnect(self) -> None:
        self._connected = False
