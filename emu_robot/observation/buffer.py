"""Observations made of the last pictures and the joint state of their time."""

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
"""Of joint states, to choose the one of an image's time from: 1 s at 200 Hz."""


class NotReadyError(EmuRobotError):
    """There is no observation to act on; the message says what is wrong with which camera, or with the states."""


class TimedObservation(NamedTuple):
    """An observation and when it was taken."""

    observation: Observation
    captured: float
    """Stamp of its oldest part [s], never in the future."""


class ObservationBuffer:
    """Keeps the last picture of every camera, and joint states."""

    def __init__(
        self, cameras: Sequence[str], size: int, fit: ImageFit, config: ObservationConfig | None = None
    ) -> None:
        """cameras: the first one's time decides which joint state belongs to the observation. size: of the square
        images [px].
        """
        self._config = config or ObservationConfig()
        self._size, self._fit = size, fit
        self._views = {camera: CameraView(camera, self._config) for camera in cameras}
        self._freshness = Freshness("joint state", self._config)
        self._states: deque[tuple[float, Floats32]] = deque(maxlen=KEPT_STATES)

    def on_state(self, state: Floats32, stamp: float, now: Moment) -> None:
        """A state (S,), finite. One that is not recent, or older than the one before, is not taken."""
        objection = self._freshness.objection(stamp, now)
        if objection:
            self._freshness.refuse(objection, now)
            return
        self._freshness.take(stamp, now)
        if self._states and stamp < self._states[-1][0]:  # only after the clock was set back
            self._states.clear()
        self._states.append((stamp, state))

    def refuse_state(self, reason: str, now: Moment) -> None:
        """A joint state came that cannot be used. reason: as "has no joint1"."""
        self._freshness.refuse(reason, now)

    def on_image(self, camera: str, image: Image, stamp: float, now: Moment) -> None:
        """A picture (H, W, 3) uint8. One that is not recent, older than the one before, unlike the others in size, or
        without contrast is not taken.

        Raises `UnknownNameError`.
        """
        self._view(camera).take(image, stamp, now, self._states[-1][1] if self._states else None)

    def refuse_image(self, camera: str, reason: str, now: Moment) -> None:
        """A picture came that cannot be used. reason: as "is cut off". Raises `UnknownNameError`."""
        self._view(camera).refuse(reason, now)

    def problem(self, now: Moment) -> str:
        """Why there is no observation to act on, naming the camera, or the joint state; empty if there is one."""
        problems = (view.problem(now) for view in self._views.values())
        return next(filter(None, problems), "") or self._freshness.problem(now)

    def observe(self, now: Moment) -> TimedObservation:
        """The last observation. Raises `NotReadyError` saying what `problem` says."""
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
