"""The required contract of environments: a suite describes its tasks and opens worlds; a world plays episodes.

`capabilities` holds the optional part. Knows neither torch nor a simulator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from emu_robot.core import Floats32, Observation, Transition
from emu_robot.errors import EmuRobotError, InvalidValueError, SystemSetupError, UnknownNameError
from emu_robot.robots.spec import RobotLayout

SEEN = "seen"
"""The split that every suite has, for demonstrations. Other splits, such as "heldout", are the suite's own."""
ALL = "all"
"""The name that selects every task of a suite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraSpec:
    """Size of a camera's pictures in observations."""

    height: int
    """Height [px]."""
    width: int
    """Width [px]."""

    def __str__(self) -> str:
        """Width and height, for instance "640 x 480"."""
        return f"{self.width} x {self.height}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSpec:
    """One task of a suite."""

    name: str
    """Name for `open` and `tasks=`."""
    group: str
    """Group over which results are averaged, too. A suite without groups gives all tasks the same one."""
    splits: tuple[str, ...] = (SEEN,)
    """Splits that have episodes of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentSpec:
    """Description of every world of a suite. Raises `UnknownNameError` or `InvalidValueError`."""

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
    """Name of a protocol, simulator or data set that results depend on -> version."""
    failure_kinds: Mapping[str, str] = field(default_factory=dict)
    """Kind -> meaning, for failures that its worlds can find; see `capabilities.KnowsFailures`."""

    def __post_init__(self) -> None:
        if self.control_hz < 1:
            raise InvalidValueError(f"control_hz is {self.control_hz}, must be at least 1")
        if self.planner_camera not in self.cameras:
            raise UnknownNameError("planner camera", self.planner_camera, self.cameras)


@runtime_checkable
class Environment(Protocol):
    """A world of one task, or of several mixed tasks, at a fixed control rate."""

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
        """The task of the present episode in words."""
        ...

    @property
    def max_steps(self) -> int:
        """Number of actions after which the present episode ends without success."""
        ...

    def reset(self, seed: int) -> Observation:
        """Begin an episode. The seed (not negative) alone determines it."""
        ...

    def step(self, action: Floats32) -> Transition:
        """Execute one action (A,) for one control tick. Raises `ShapeError` or `InvalidValueError`."""
        ...

    def close(self) -> None:
        """Release the world's resources. It is not used afterwards."""
        ...


@runtime_checkable
class Suite(Protocol):
    """The class behind a registered name. It is made without arguments, and cheaply: only worlds may be costly."""

    @property
    def spec(self) -> EnvironmentSpec:
        """Description of every world."""
        ...

    @property
    def tasks(self) -> Sequence[TaskSpec]:
        """Every task, in the order of reports."""
        ...

    @property
    def default_tasks(self) -> Sequence[str]:
        """Tasks or groups that are evaluated if none are named; ("all",) for every task."""
        ...

    def open(self, task: str, split: str) -> Environment:
        """A new world for one task of `tasks` in one of its splits. The caller closes it."""
        ...


def open_task(suite: Suite, task: str, split: str) -> Environment:
    """A new world. Raises `SystemSetupError` if it cannot be opened, or naming the members that it lacks."""
    what = f"task {task!r} of {type(suite).__module__}.{type(suite).__qualname__}"
    try:
        world = suite.open(task, split)
    except EmuRobotError:
        raise
    except Exception as error:  # a plug-in may raise anything
        raise SystemSetupError(f"{what} cannot be opened ({type(error).__name__}: {error})") from error
    check_members(f"{what}: {type(world).__qualname__}", world, Environment)
    return world


def check_observation(what: str, observation: Observation, spec: EnvironmentSpec) -> None:
    """Raise `SystemSetupError` naming both values where a first observation is not as `spec` says."""
    given = {name: CameraSpec(height=len(image), width=image.shape[1]) for name, image in observation.images.items()}
    if given != dict(spec.cameras):
        raise SystemSetupError(f"{what}: reset shows cameras {_listed(given)}; its spec says {_listed(spec.cameras)}")
    n_states = len(spec.layout.state_names)
    if observation.state.shape != (n_states,):
        raise SystemSetupError(
            f"{what}: the state has shape {observation.state.shape}; its spec names {n_states} entries"
        )


def _listed(cameras: Mapping[str, CameraSpec]) -> str:
    return ", ".join(f"{name} ({size})" for name, size in cameras.items()) or "none"


def check_members(what: str, value: object, protocol: type) -> None:
    """Raise `SystemSetupError` naming the members of the protocol that a value lacks."""
    missing = [name for name in dir(protocol) if not name.startswith("_") and name not in dir(value)]
    if missing:
        raise SystemSetupError(f"{what} is no {protocol.__name__}: it lacks {', '.join(missing)}")


def select_tasks(known: Sequence[TaskSpec], names: Sequence[str], split: str) -> tuple[TaskSpec, ...]:
    """Select tasks by their names, their groups' names or "all". Groups skip tasks without the split.

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
