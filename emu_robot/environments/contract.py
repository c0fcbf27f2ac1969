"""What an environment must offer: a suite describes its tasks and opens worlds; a world plays episodes.

What it may offer beyond that stands in `capabilities`. Knows neither torch nor a simulator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from emu_robot.core import Floats32, Observation, Transition
from emu_robot.errors import InvalidValueError, SystemSetupError, UnknownNameError
from emu_robot.robots.spec import RobotLayout

SEEN = "seen"
"""The split that every suite has: what demonstrations may show. Others, such as "heldout", are the suite's own."""
ALL = "all"
"""Names every task of a suite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraSpec:
    """Size of a camera's pictures in observations."""

    height: int
    """[px]"""
    width: int
    """[px]"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSpec:
    """One task of a suite."""

    name: str
    """By which `open` and `tasks=` know it."""
    group: str
    """Results are also averaged over the groups; a suite without any gives all tasks the same one."""
    splits: tuple[str, ...] = (SEEN,)
    """Which splits have episodes of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentSpec:
    """What holds for every world of a suite. Raises `UnknownNameError` or `InvalidValueError`."""

    control_hz: int
    """Actions per second [Hz], at least 1."""
    cameras: Mapping[str, CameraSpec]
    """Name -> size, at least one."""
    planner_camera: str
    """The camera in whose view subgoals are planned."""
    layout: RobotLayout
    """Names, units and kind of state and action, and the grippers' polarity."""
    success_rule: str
    """When an episode counts as a success, in words."""
    versions: Mapping[str, str]
    """What results depend on: name of a protocol, simulator or data set -> version."""
    failure_kinds: Mapping[str, str] = field(default_factory=dict)
    """Kind -> meaning of the failures that its worlds can tell; see `capabilities.KnowsFailures`."""

    def __post_init__(self) -> None:
        if self.control_hz < 1:
            raise InvalidValueError(f"control_hz is {self.control_hz}, must be at least 1")
        if self.planner_camera not in self.cameras:
            raise UnknownNameError("planner camera", self.planner_camera, self.cameras)


@runtime_checkable
class Environment(Protocol):
    """A world of one task (or of several, mixed) at a fixed control rate. Same seed, same episode."""

    @property
    def spec(self) -> EnvironmentSpec:
        """Its suite's description."""
        ...

    @property
    def task_name(self) -> str:
        """The task of the present episode."""
        ...

    @property
    def instruction(self) -> str:
        """What the present episode asks for, in words."""
        ...

    @property
    def max_steps(self) -> int:
        """After how many actions the present episode ends without success."""
        ...

    def reset(self, seed: int) -> Observation:
        """Begin the episode that the seed (not negative) alone decides."""
        ...

    def step(self, action: Floats32) -> Transition:
        """Execute one action (A,) for one control tick; raises `ShapeError` or `InvalidValueError`."""
        ...

    def close(self) -> None:
        """Release what the world holds; it is not used afterwards."""
        ...


@runtime_checkable
class Suite(Protocol):
    """What a registered name stands for; made without arguments, and cheaply: only worlds may be costly."""

    @property
    def spec(self) -> EnvironmentSpec: ...

    @property
    def tasks(self) -> Sequence[TaskSpec]:
        """Every task, in the order of reports."""
        ...

    @property
    def default_tasks(self) -> Sequence[str]:
        """Tasks or groups that are evaluated when none are named; ("all",) for every task."""
        ...

    def open(self, task: str, split: str) -> Environment:
        """A new world for one task of `tasks` in one of its splits, to be closed by the caller."""
        ...


def open_task(suite: Suite, task: str, split: str) -> Environment:
    """A new world, checked; raises `SystemSetupError` naming what it lacks."""
    world = suite.open(task, split)
    check_members(type(world).__qualname__, world, Environment)
    return world


def check_members(what: str, value: object, protocol: type) -> None:
    """Raise `SystemSetupError` naming the members of the protocol that a value does not have."""
    missing = [name for name in dir(protocol) if not name.startswith("_") and name not in dir(value)]
    if missing:
        raise SystemSetupError(f"{what} is no {protocol.__name__}: it lacks {', '.join(missing)}")


def select_tasks(known: Sequence[TaskSpec], names: Sequence[str], split: str) -> tuple[TaskSpec, ...]:
    """Tasks by their names, their groups' names or "all"; groups leave out tasks that the split does not have.

    Raises `UnknownNameError` for a name or split, `InvalidValueError` for a task without the split, or no task.
    """
    splits = dict.fromkeys(split for task in known for split in task.splits)
    if split not in splits:
        raise UnknownNameError("split", split, splits)
    by_name, groups = {task.name: task for task in known}, dict.fromkeys(task.group for task in known)
    chosen: dict[str, TaskSpec] = {}
    for name in names:
        if name == ALL or name in groups:
            some = [task for task in known if name in (ALL, task.group) and split in task.splits]
            chosen |= {task.name: task for task in some}
        elif name not in by_name:
            raise UnknownNameError("task", name, (*by_name, *groups, ALL))
        elif split not in by_name[name].splits:
            raise InvalidValueError(f"task {name!r} has no split {split!r}; it has {', '.join(by_name[name].splits)}")
        else:
            chosen[name] = by_name[name]
    if not chosen:
        raise InvalidValueError(f"no tasks given; known: {', '.join((*by_name, *groups, ALL))}")
    return tuple(chosen.values())
