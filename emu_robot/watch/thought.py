"""What a page shows of a policy at one moment. Knows neither simulator nor middleware."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from emu_robot.core import Floats, Image, PlanStep


class Ending(StrEnum):
    """How the pursuit of a subtask ended."""

    REACHED = "reached"
    """The policy counts it as reached."""
    OVERDUE = "overdue"
    """It took too long."""
    DONE = "done"
    """The simulation says that the whole task is done."""
    LEFT = "left"
    """Another plan, another task or the end of the episode came first."""


class Mind(StrEnum):
    """What the policy does."""

    IDLE = "idle"
    """It has no task."""
    PURSUES = "pursues"
    """It pursues a subtask."""
    COMPLETE = "complete"
    """It holds the task complete."""


@dataclass(frozen=True, kw_only=True)
class Pursued:
    """A subtask that was begun."""

    words: str
    """The subtask in words."""
    begun_s: float
    """When it was planned, since the task began [s]."""
    lasts_s: float
    """For how long it was pursued, until now or its end [s]."""
    ending: Ending | None
    """How it ended; None for the present one."""
    progress: tuple[float, ...]
    """Progress in [0, 1], chunk by chunk, the newest last."""
    before: Image | None
    """The planner's view when the subtask was planned; None if it is not known."""
    predicted: Image | None
    """The subgoal: the view that the planner wants; None for words alone."""
    achieved: Image | None
    """The view at its end, or the newest one; None before the first."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The action chunk that is played."""

    names: tuple[str, ...]
    """Names of the dimensions."""
    actions: Floats
    """(T, A) in physical units."""
    dt: float
    """Time between actions [s]."""
    executed: int
    """Number of actions, from the first, whose time is over."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The safety gate."""

    state: str
    """disarmed, holding, tracking, fault or estop; empty if nothing was heard of a gate."""
    reason: str = ""
    """Why it does not move the robot, or why there is none; empty while it does."""
    counts: Mapping[str, int] | None = None
    """Chunks taken and refused, faults, holds; None if it does not tell."""


@dataclass(frozen=True, kw_only=True)
class Delay:
    """Durations of something that happens again and again."""

    name: str
    """What took so long, in words."""
    last_s: float
    """The newest [s]."""
    median_s: float
    """Median of the last ones [s]."""
    n: int
    """Number of durations that the median is taken from."""


@dataclass(frozen=True, kw_only=True)
class Thought:
    """Everything that the page shows."""

    source: str
    """Where it comes from, in words."""
    task: str
    """The instruction; empty while there is none."""
    number: int
    """Number of the task, from 1; 0 before the first."""
    seconds: float
    """Time since the task began [s]."""
    mind: Mind
    """What the policy does."""
    steps: tuple[Pursued, ...]
    """Subtasks that were begun, in order; the last one is pursued unless it has an ending."""
    to_come: tuple[PlanStep, ...]
    """Further subtasks, as the planner expects them."""
    foresees: bool
    """Whether the source tells further subtasks at all."""
    done: tuple[int, int] | None
    """True subtasks done, and their number; None if the source does not judge."""
    chunk: Chunk | None
    """The played chunk; None before the first."""
    position: Floats | None
    """(A,) measured joints and gripper; None before the first state."""
    gate: Gate
    """The safety gate."""
    delays: tuple[Delay, ...]
    """How long things take."""
    pictures: Mapping[str, Image]
    """The newest picture of each camera."""
    played: tuple[int, int]
    """Successes, and episodes that ended."""
    lines: tuple[tuple[float, str], ...]
    """(time since the task began [s], what happened), newest last."""
