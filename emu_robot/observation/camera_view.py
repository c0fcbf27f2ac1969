"""The last usable picture of one camera, and whether the camera is frozen."""

from typing import NamedTuple

import numpy as np

from emu_robot.core import Floats32, Image
from emu_robot.observation.config import ObservationConfig
from emu_robot.observation.freshness import Freshness, Moment

SPARSE = (slice(None, None, 8), slice(None, None, 8))
"""Pixels that are compared first: most different pictures differ there."""
STILL = 0.1
"""Share of `frozen_motion` below which the robot counts as still."""


class _Same(NamedTuple):
    """The first of several equal pictures."""

    image: Image
    """(H, W, 3) uint8 RGB."""
    since: float
    """Arrival of the last equal picture before the robot moved, on the steady clock [s]."""
    state: Floats32 | None
    """(S,) of the robot at the first picture; None if not known."""


class CameraView:
    """The last usable picture of a camera, or why there is none.

    A camera is frozen if, while the robot moves, its pictures stay equal for longer than a picture may be old. Noise of
    a few grey levels counts as equal. A picture of noise alone is taken: this class does not know scenes.
    """

    def __init__(self, camera: str, config: ObservationConfig) -> None:
        self._camera, self._config = camera, config
        self._freshness = Freshness(f"picture of camera {camera}", config)
        self._shape: tuple[int, ...] | None = None
        self._image: Image | None = None
        self._same: _Same | None = None
        self._moved = 0.0

    @property
    def image(self) -> Image:
        """The last picture taken, (H, W, 3). There must be one."""
        assert self._image is not None
        return self._image

    @property
    def captured(self) -> float:
        """When it was captured [s], never later than its arrival."""
        return self._freshness.captured

    def take(self, image: Image, stamp: float, now: Moment, state: Floats32 | None) -> None:
        """Take a picture (H, W, 3) uint8, or note why it is refused. state: (S,) of the robot, if known."""
        objection = self._freshness.objection(stamp, now) or self._unfit(image)
        if objection:
            self.refuse(objection, now)
            return
        self._freshness.take(stamp, now)
        self._image = image
        if self._same is None or not self._is_same(image, self._same.image):
            self._same, self._moved = _Same(image, now.steady, state), 0.0
        elif self._same.state is None:
            self._same = self._same._replace(state=state)
        elif state is not None:
            self._compare(state - self._same.state, self._same, now)

    def refuse(self, reason: str, now: Moment) -> None:
        """A picture came that cannot be used."""
        self._freshness.refuse(reason, now)

    def problem(self, now: Moment) -> str:
        """Why the last picture cannot be acted on now; empty if it can."""
        problem = self._freshness.problem(now)
        if not problem and self._moved > self._config.frozen_motion:
            return f"camera {self._camera} is frozen: the same picture while the robot moved by {self._moved:.2f}"
        return problem

    def _compare(self, way: Floats32, same: _Same, now: Moment) -> None:
        """An equal picture came. way: motion (S,) of the robot since the first of them."""
        moved = float(np.abs(way).max())
        if moved < STILL * self._config.frozen_motion:
            self._same, self._moved = same._replace(since=now.steady), 0.0
        elif now.steady - same.since > self._config.max_age_s:
            self._moved = moved

    def _unfit(self, image: Image) -> str:
        self._shape = self._shape or image.shape
        if image.shape != self._shape:
            (height, width), (rows, columns) = self._shape[:2], image.shape[:2]
            return f"changed its size from {width} x {height} to {columns} x {rows}"
        is_flat = image[::4, ::4].std() < self._config.min_contrast
        return "shows nothing: black or covered" if is_flat else ""

    def _is_same(self, image: Image, other: Image) -> bool:
        most = self._config.frozen_difference
        return _difference(image[SPARSE], other[SPARSE]) <= most and _difference(image, other) <= most


def _difference(one: Image, other: Image) -> int:
    """Largest difference between values at the same place."""
    return int((np.maximum(one, other) - np.minimum(one, other)).max())
