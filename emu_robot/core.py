"""The data contract between cameras, planner, action head and robot. Knows neither torch nor a simulator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from emu_robot.errors import ShapeError

type Image = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""
type Floats = NDArray[np.float64]
"""float64 numbers of the robot side: joints, times, limits."""
type Floats32 = NDArray[np.float32]
"""float32 numbers of networks and datasets: states, actions, weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """Camera images and robot state at one control tick."""

    images: Mapping[str, Image]
    """Camera name -> (H, W, 3) uint8 RGB."""
    state: Floats32
    """(S,) float32, in the layout of `RobotSpec.state_names`."""

    def __post_init__(self) -> None:
        for camera, image in self.images.items():
            check_image(f"image of camera {camera!r}", image)
        if self.state.ndim != 1:
            raise ShapeError("state", self.state.shape, "(S,)")


class Fact(NamedTuple):
    """Where one thing is in a picture."""

    place: str
    """In words, for instance "on the plate" or "on the table"; "open" or "closed" for a thing that opens."""
    u: float
    """Column of its centre [px], also if it is hidden."""
    v: float
    """Row of its centre [px]."""
    is_visible: bool
    """Whether nothing that stays hides it; the arm may."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanStep:
    """One step of a plan."""

    subtask: str
    """The step in words."""
    subgoal: Image | None = None
    """The view of the planner's camera when the step is done; None for words alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PastStep:
    """A step that was planned and pursued before, whether it succeeded or not."""

    observation: "Observation"
    """What the planner saw when it planned the step."""
    subtask: str
    """The step in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The remaining steps of a task."""

    instruction: str
    """The task in words."""
    steps: tuple[PlanStep, ...]
    """The next step first; empty if the planner declares the task complete."""
    end_odds: float | None = None
    """Log odds, by the planner, that the task is complete after these steps; None if it did not look ahead."""

    @property
    def is_complete(self) -> bool:
        """Whether no step is left."""
        return not self.steps


class PolicyEvent(StrEnum):
    """A decision of a policy; the values are the words that records keep."""

    PLANNED = "planned"
    """A next step was planned."""
    REACHED = "reached"
    """The step counts as reached; the arm may still be on its way back."""
    SWITCHED = "switched"
    """The step is over; the next plan is due."""
    TIMEOUT = "timeout"
    """The last step took too long."""
    COMPLETE = "complete"
    """The task is declared complete: the planner sees it so, or the step that counts as reached is the last one."""
    PLAN_FAILED = "plan failed"
    """The planner gave no plan; the last step stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionChunk:
    """Actions to execute, one per control tick, the first one now."""

    actions: Floats32
    """(T, A) float32, in the layout of `RobotSpec.action_names`."""
    step: PlanStep | None = None
    """The pursued plan step; None without a planner."""
    progress: float | None = None
    """Estimated progress through that step in [0, 1]; None if the head does not estimate it."""
    events: tuple[PolicyEvent, ...] = field(default=())
    """Decisions of the policy at this call, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """An environment's answer to one action."""

    observation: Observation
    """The observation after the action."""
    success: bool
    """Whether the predicate of the whole task holds now."""
    subtasks_done: tuple[bool, ...]
    """Per subtask, in order, whether it was done at some tick."""
    reward: float | None = None
    """The environment's reward for the action; None without one."""
    ended: bool | None = None
    """Whether the environment ended the episode; None if only success and the step limit end it."""


@runtime_checkable
class Policy(Protocol):
    """A policy. It has only two methods, so that policies can wrap each other."""

    def reset(self, instruction: str) -> None:
        """Start an episode with an instruction."""
        ...

    def act(self, observation: Observation) -> ActionChunk:
        """The next chunk for the present observation."""
        ...


@runtime_checkable
class Steerable(Protocol):
    """A policy whose instruction can change while the robot moves."""

    def instruct(self, instruction: str) -> None:
        """Go over to another instruction, which the next chunk serves. Empty: hold still until the next one."""
        ...


@runtime_checkable
class Coachable(Protocol):
    """A policy whose next subtask a person may say."""

    def coach(self, subtask: str) -> None:
        """Pursue this subtask in place of the planner's, until it is reached or overdue; the next chunk serves it.

        Empty: plan from the next observation, also a task that was declared complete.
        """
        ...


@runtime_checkable
class Foresees(Protocol):
    """A policy that tells what it expects after the subtask that it pursues."""

    def foresee(self, observation: Observation) -> tuple[PlanStep, ...]:
        """The further subtasks, as expected from this observation; empty if there are none. Changes nothing."""
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
