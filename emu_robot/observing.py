"""Cameras and joint states that arrive on their own become observations that belong together. Knows no middleware.

Stamps are seconds of whatever clock the sender stamps with; ages are against the same clock.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Image, Observation
from emu_robot.errors import EmuRobotError, InvalidValueError, UnknownNameError
from emu_robot.image_fit import ImageFit, fit_image

KEPT_STATES = 200
"""Of joint states, to choose the one of an image's time from: 1 s at 200 Hz."""


class NotReadyError(EmuRobotError):
    """There is no observation to act on; the message says what is wrong with which camera, or with the states."""


@dataclass(kw_only=True)
class ObservingConfig:
    """When an observation may be acted on.

    max_age_s: of its oldest part [s]. frozen_motion: joints' motion [rad] during which a camera may show the very same
    picture. min_contrast: standard deviation of pixels [0, 255] below which a camera counts as covered or black.
    """

    max_age_s: float = 0.3
    frozen_motion: float = 0.15
    min_contrast: float = 2.0

    def __post_init__(self) -> None:
        if self.max_age_s <= 0 or self.frozen_motion <= 0 or self.min_contrast < 0:
            raise InvalidValueError("max_age_s and frozen_motion must be positive, min_contrast not negative")


class TimedObservation(NamedTuple):
    """captured: stamp of its oldest image [s]."""

    observation: Observation
    captured: float


class _View(NamedTuple):
    image: Image
    stamp: float
    since: NDArray[np.float32] | None
    """State when this very picture first came."""
    moved: float
    """How far the robot went from there while it kept coming [rad]."""


class ObservationBuffer:
    """Keeps the last image of every camera, and joint states.

    cameras: the first one's time decides which joint state belongs to the observation. size: of the square images.
    """

    def __init__(self, cameras: Sequence[str], size: int, fit: ImageFit, config: ObservingConfig | None = None) -> None:
        self._cameras, self._size, self._fit = tuple(cameras), size, fit
        self._config = config or ObservingConfig()
        self._views: dict[str, _View] = {}
        self._states: deque[tuple[float, NDArray[np.float32]]] = deque(maxlen=KEPT_STATES)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._refused: dict[str, str] = {}

    def on_state(self, state: NDArray[np.float32], stamp: float) -> None:
        """A state (S,), finite. One that is older than the last one, as after a clock's jump, starts anew."""
        if self._states and stamp < self._states[-1][0]:
            self._states.clear()
        self._states.append((stamp, state))

    def on_image(self, camera: str, image: Image, stamp: float) -> None:
        """A picture (H, W, 3) uint8. One that is unlike the others in size, or without contrast, is not taken.

        Raises `UnknownNameError`.
        """
        if camera not in self._cameras:
            raise UnknownNameError("camera", camera, self._cameras)
        shape = self._shapes.setdefault(camera, image.shape)
        if image.shape != shape:
            self._refused[camera] = f"changed its size from {shape} to {image.shape}"
            return
        if image[::4, ::4].std() < self._config.min_contrast:
            self._refused[camera] = "shows nothing: black or covered"
            return
        self._refused.pop(camera, None)
        before, state = self._views.get(camera), self._states[-1][1] if self._states else None
        if before is None or not np.array_equal(before.image, image):
            self._views[camera] = _View(image, stamp, state, 0.0)
            return
        since = state if before.since is None else before.since
        moved = 0.0 if state is None or since is None else float(np.abs(state - since).max())
        self._views[camera] = before._replace(stamp=stamp, since=since, moved=moved)

    def observe(self, now: float) -> TimedObservation:
        """The last observation. Raises `NotReadyError` naming the camera, or the states, that it cannot be made of."""
        for camera in self._cameras:
            self._check(camera, now)
        if not self._states:
            raise NotReadyError("no joint states yet")
        first = self._views[self._cameras[0]].stamp
        stamp, state = min(self._states, key=lambda kept: abs(kept[0] - first))
        if now - self._states[-1][0] > self._config.max_age_s:
            raise NotReadyError(f"joint states are {now - self._states[-1][0]:.2f} s old")
        captured = min(self._views[camera].stamp for camera in self._cameras)
        images = {camera: fit_image(self._views[camera].image, self._size, self._fit) for camera in self._cameras}
        return TimedObservation(Observation(images=images, state=state), min(captured, stamp))

    def _check(self, camera: str, now: float) -> None:
        view = self._views.get(camera)
        if camera in self._refused:
            raise NotReadyError(f"camera {camera} {self._refused[camera]}")
        if view is None:
            raise NotReadyError(f"no image of camera {camera} yet")
        if now - view.stamp > self._config.max_age_s:
            raise NotReadyError(f"the image of camera {camera} is {now - view.stamp:.2f} s old")
        if view.moved > self._config.frozen_motion:
            raise NotReadyError(
                f"camera {camera} is frozen: the same picture while the robot moved by {view.moved:.2f}"
            )
