"""Observations made of the last pictures and the joint state nearest to them in time."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from emu_robot.core import Floats32, Image, Observation
from emu_robot.errors import EmuRobotError, UnknownNameError
from emu_robot.observation.camera_view import CameraView
from emu_robot.observation.config import ObservationConfig
from emu_robot.observation.freshness import Freshness, Moment
from emu_robot.observation.image_fit import ImageFit, fit_image

KEPT_STATES = 200
"""Number of joint states kept to choose the one nearest to an image: 1 s at 200 Hz."""


class NotReadyError(EmuRobotError):
    """There is no observation to act on; the message names the camera or the joint states, and what is wrong."""


class TimedObservation(NamedTuple):
    """An observation and when it was taken."""

    observation: Observation
    """Pictures and joint state."""
    captured: float
    """Stamp of its oldest part [s], never in the future."""


class ObservationBuffer:
    """Keeps the last picture of every camera, and recent joint states."""

    def __init__(
        self, cameras: Sequence[str], size: int, fit: ImageFit, config: ObservationConfig | None = None
    ) -> None:
        """cameras: names; the time of the first chooses the joint state. size: height and width of the images [px]."""
        self._config = config or ObservationConfig()
        self._size, self._fit = size, fit
        self._views = {camera: CameraView(camera, self._config) for camera in cameras}
        self._freshness = Freshness("joint state", self._config)
        self._states: deque[tuple[float, Floats32]] = deque(maxlen=KEPT_STATES)

    def on_state(self, state: Floats32, stamp: float, now: Moment) -> None:
        """Take a finite state (S,). It is refused if it is not recent, or older than the last."""
        objection = self._freshness.objection(stamp, now)
        if objection:
            self._freshness.refuse(objection, now)
            return
        self._freshness.take(stamp, now)
        if self._states and stamp < self._states[-1][0]:  # the clock was set back
            self._states.clear()
        self._states.append((stamp, state))

    def refuse_state(self, reason: str, now: Moment) -> None:
        """A joint state came that cannot be used. reason: for instance "has no joint1"."""
        self._freshness.refuse(reason, now)

    def on_image(self, camera: str, image: Image, stamp: float, now: Moment) -> None:
        """Take a picture (H, W, 3) uint8. Raises `UnknownNameError` for the camera.

        It is refused if it is not recent, older than the last, of another size, or without contrast.
        """
        self._view(camera).take(image, stamp, now, self._states[-1][1] if self._states else None)

    def refuse_image(self, camera: str, reason: str, now: Moment) -> None:
        """A picture came that cannot be used. reason: for instance "is cut off". Raises `UnknownNameError`."""
        self._view(camera).refuse(reason, now)

    def problem(self, now: Moment) -> str:
        """Why there is no observation to act on, naming the camera or the joint state; empty if there is one."""
        problems = (view.problem(now) for view in self._views.values())
        return next(filter(None, problems), "") or self._freshness.problem(now)

    def observe(self, now: Moment) -> TimedObservation:
        """The last observation. Raises `NotReadyError` with the words of `problem`."""
        problem = self.problem(now)
        if problem:
            raise NotReadyError(problem)
        views = list(self._views.values())
        oldest = now.stamped - self._config.max_age_s
        recent = [kept for kept in self._states if kept[0] >= oldest] or [self._states[-1]]
        stamp, state = min(recent, key=lambda kept: abs(kept[0] - views[0].captured))
        captured = min(stamp, now.stamped, *(view.captured for view in views))
        images = {camera: fit_image(view.image, self._size, self._fit) for camera, view in self._views.items()}
        return TimedObservation(Observation(images=images, state=state), captured)

    def _view(self, camera: str) -> CameraView:
        if camera not in self._views:
            raise UnknownNameError("camera", camera, self._views)
        return self._views[camera]
