"""The data contract between cameras, planner, action head and robot. Knows neither torch nor a simulator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from emu_robot.errors import ShapeError

type Image = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""
type Floats = NDArray[np.float64]
"""Numbers of the robot side: joints, times, limits."""
type Floats32 = NDArray[np.float32]
"""Numbers that a network or a dataset holds: states, actions, weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What the robot sees and feels at one control tick.

    images: camera name -> (H, W, 3) uint8 RGB.
    state: (S,) float32; its layout is named by `RobotSpec.state_names`.
    """

    images: Mapping[str, Image]
    state: Floats32

    def __post_init__(self) -> None:
        for camera, image in self.images.items():
            check_image(f"image of camera {camera!r}", image)
        if self.state.ndim != 1:
            raise ShapeError("state", self.state.shape, "(S,)")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanStep:
    """One language step and the image at its completion (the planner's view); no image when text only."""

    subtask: str
    subgoal: Image | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is still to be done, next step first; no steps means the planner holds the task complete."""

    instruction: str
    steps: tuple[PlanStep, ...]

    @property
    def is_complete(self) -> bool:
        return not self.steps


class PolicyEvent(StrEnum):
    """What a policy decided at a call; the values are the words that records keep."""

    PLANNED = "planned"
    """A next step was planned."""
    SWITCHED = "switched"
    """The step before counts as reached."""
    TIMEOUT = "timeout"
    """The step before took too long."""
    COMPLETE = "complete"
    """The planner holds the task complete."""
    PLAN_FAILED = "plan failed"
    """The planner gave no plan; the step before stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionChunk:
    """Actions to execute one per control tick, first one now.

    actions: (T, A) float32, layout `RobotSpec.action_names`.
    step: the plan step being pursued, if there is a planner.
    progress: estimated progress through that step in [0, 1], if the head estimates it.
    events: what the policy decided at this call, in order.
    """

    actions: Floats32
    step: PlanStep | None = None
    progress: float | None = None
    events: tuple[PolicyEvent, ...] = field(default=())


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """What an environment answers to one action.

    success: the whole task's predicate holds now.
    subtasks_done: per subtask of the task, whether it has been completed (latched, in order).
    """

    observation: Observation
    success: bool
    subtasks_done: tuple[bool, ...]


@runtime_checkable
class Policy(Protocol):
    """Two methods, so that policies wrap each other."""

    def reset(self, instruction: str) -> None:
        """Start a new episode with an instruction."""
        ...

    def act(self, observation: Observation) -> ActionChunk:
        """The next chunk from the present observation."""
        ...


@runtime_checkable
class Seeded(Protocol):
    """A policy whose random numbers can be chosen."""

    def seed(self, seed: int) -> None:
        """Choose the random numbers of the following episodes."""
        ...


def check_image(what: str, image: object, size: tuple[int, int] | None = None) -> None:
    """Raise `ShapeError` unless image is (H, W, 3) uint8, of `size` (H, W) when given."""
    height, width = size or ("H", "W")
    expected = f"({height}, {width}, 3) uint8"
    if not isinstance(image, np.ndarray):
        raise ShapeError(what, type(image).__name__, expected)
    fits = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    if not fits or (size is not None and image.shape[:2] != size):
        raise ShapeError(what, f"{image.shape} {image.dtype}", expected)
