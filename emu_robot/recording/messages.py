"""What a recording is made of, and what its two processes tell each other. Numpy only.

The process that controls the robot sends `Order`s; the writer answers with `News`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from emu_robot.core import Floats32, Observation
from emu_robot.errors import InvalidValueError, ShapeError
from emu_robot.robots.spec import RobotLayout


@dataclass(frozen=True, kw_only=True)
class RecordedRobot:
    """The robot of a session. All its episodes have these dimensions, cameras and rate."""

    layout: RobotLayout
    """Names and kinds of state and action."""
    fps: int
    """Frames per second [Hz]."""
    cameras: Mapping[str, tuple[int, int]]
    """Name of each camera -> height and width of its pictures [px]."""
    robot_type: str
    """Name of the robot, as LeRobot's metadata keep it."""

    def __post_init__(self) -> None:
        if self.fps < 1:
            raise InvalidValueError(f"fps is {self.fps}, must be at least 1")
        for camera, size in self.cameras.items():
            if min(size) < 16 or any(side % 2 for side in size):  # H.264 halves the resolution of colours
                raise InvalidValueError(f"camera {camera}: {size[0]} x {size[1]} px; sides must be even, at least 16")

    @property
    def frame_bytes(self) -> int:
        """Bytes of the pictures of one frame."""
        return sum(3 * height * width for height, width in self.cameras.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One tick of the control loop: what was seen, and what was done then."""

    observation: Observation
    """Pictures and state (S,)."""
    action: Floats32
    """(A,) as the robot was commanded."""
    stamp_s: float
    """When the observation was captured, on any clock that does not jump [s]."""
    intervention: bool = False
    """Whether a person corrected a policy."""
    is_overrun: bool = False
    """Whether the control loop was late for this tick."""

    def copy(self) -> "Frame":
        """A frame whose arrays are shared with nothing else."""
        images = {name: np.array(image, order="C") for name, image in self.observation.images.items()}
        return replace(
            self,
            observation=Observation(images=images, state=np.array(self.observation.state)),
            action=np.array(self.action),
        )

    def check(self, robot: RecordedRobot) -> None:
        """Raise `ShapeError` or `InvalidValueError` naming the part that is not of this robot."""
        layout, state, images = robot.layout, self.observation.state, self.observation.images
        for name, vector, names in (
            ("state", state, layout.state_names),
            ("action", self.action, layout.action_names),
        ):
            if vector.shape != (len(names),):
                raise ShapeError(name, vector.shape, f"({len(names)},)")
            if not np.isfinite(vector).all():
                raise InvalidValueError(f"{name} of a frame holds values that are not finite")
        if set(images) != set(robot.cameras):
            raise InvalidValueError(f"a frame has the cameras {sorted(images)}, recorded are {sorted(robot.cameras)}")
        for camera, image in images.items():
            if image.shape[:2] != tuple(robot.cameras[camera]):
                raise ShapeError(f"picture of camera {camera}", image.shape, (*robot.cameras[camera], 3))
        if not np.isfinite(self.stamp_s):
            raise InvalidValueError(f"a frame is stamped {self.stamp_s} s")


class Outcome(StrEnum):
    """How an episode ended, by the operator's word."""

    success = "success"
    failure = "failure"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Order: open a session."""

    root: Path
    robot: RecordedRobot
    operator: str
    camera_settings: Mapping[str, Any] = field(default_factory=dict)
    license: str = ""
    weights: str = ""
    """Name or folder of the weights of a policy that drives in the session; empty without one."""


@dataclass(frozen=True)
class Start:
    """Order: begin an episode."""

    task: str
    begun: str
    """When the operator began it, by the calendar (UTC, ISO 8601)."""


@dataclass(frozen=True)
class Mark:
    """Order: the next frame begins a subtask."""

    subtask: str


@dataclass(frozen=True)
class Flag:
    """Order: note something about the next frame."""

    text: str


@dataclass(frozen=True)
class End:
    """Order: commit the episode."""

    outcome: Outcome
    cause: str


@dataclass(frozen=True)
class Discard:
    """Order: forget the running episode."""


@dataclass(frozen=True)
class Close:
    """Order: finish."""


type Order = Setup | Start | Frame | Mark | Flag | End | Discard | Close


@dataclass(frozen=True)
class Committed:
    """News: the session holds this many episodes, in this many bytes per frame."""

    episodes: int
    bytes_per_frame: float | None


@dataclass(frozen=True)
class Loaded:
    """News: the writer has loaded LeRobot; it took frames into its queue only, until now."""


@dataclass(frozen=True)
class Failed:
    """News: an episode cannot be recorded, or a session not be opened."""

    kind: type[Exception]
    message: str
    was_ended: bool
    """Whether the operator had ended the episode."""


type News = Committed | Loaded | Failed
