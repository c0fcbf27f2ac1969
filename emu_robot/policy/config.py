"""Settings of a policy, with defaults and ranges for every way to run it. Loads no torch."""

from dataclasses import dataclass, field
from enum import StrEnum

from emu_robot.errors import UnknownNameError
from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.decoding.config import DecoderConfig
from emu_robot.shared.settings import check_ranges, number


class GoalMode(StrEnum):
    """Source of subtask and subgoal image."""

    PLANNER = "planner"
    """Both come from the planner."""
    TEXT = "text"
    """The words come from the planner; there is no image."""
    ORACLE = "oracle"
    """Both come from a `SubgoalSource`."""
    SHUFFLED = "shuffled"
    """The words come from the planner, the image from a `SubgoalSource`."""
    NONE = "none"
    """The whole instruction is the subtask; there is no planner and no image."""
    AUTO = "auto"
    """The mode that the weights name: the one that was best on their training set; planner if they name none."""

    def resolved(self, named: "GoalMode") -> "GoalMode":
        """The mode itself, or for AUTO the one that the weights name."""
        return named if self is GoalMode.AUTO else self

    @property
    def needs_planner(self) -> bool:
        """Whether the mode needs a planner."""
        return self in (GoalMode.PLANNER, GoalMode.TEXT, GoalMode.SHUFFLED)

    @property
    def needs_source(self) -> bool:
        """Whether the mode needs a `SubgoalSource`."""
        return self in (GoalMode.ORACLE, GoalMode.SHUFFLED)


def read_goal(name: str) -> GoalMode:
    """The mode of this name, among those that need no `SubgoalSource`. Raises `UnknownNameError`."""
    known = [mode.value for mode in GoalMode if not mode.needs_source]
    if name not in known:
        raise UnknownNameError("goal", name, known)
    return GoalMode(name)


@dataclass(frozen=True, kw_only=True)
class ChunkConfig:
    """How the action head samples a chunk."""

    flow_steps: int = number(8, 1, 1000)
    """Euler steps per chunk."""
    noise_scale: float = number(0.0, 0.0, 10.0)
    """Scale of the starting noise: 1 samples the learned distribution, 0 takes its centre, for steadier motion."""

    def __post_init__(self) -> None:
        check_ranges(self, "chunk")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Settings of planner and action head together."""

    goal: GoalMode = GoalMode.AUTO
    """Source of subtask and subgoal image: a `GoalMode`."""
    n_action_steps: int = number(8, 1, 1000)
    """Actions of each chunk that are executed before the next one [control ticks]."""
    whole_chunks: bool = False
    """Whether to return the remaining actions of a chunk, too."""
    chunk: ChunkConfig = field(default_factory=ChunkConfig)
    """How a chunk is sampled."""
    replan: ReplanConfig = field(default_factory=ReplanConfig)
    """When the next step is planned."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """How the planner draws subgoal images."""
    int8: bool = True
    """Whether the planner may compute in int8 where that is faster."""

    def __post_init__(self) -> None:
        check_ranges(self)
