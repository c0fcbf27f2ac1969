"""Settings of a policy, the source of their defaults and ranges for every way to run one. Loads no torch."""

from dataclasses import dataclass, field
from enum import StrEnum

from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.decoding.config import DecoderConfig
from emu_robot.shared.settings import check_ranges, number


class GoalMode(StrEnum):
    """Where subtask and subgoal image come from.

    planner: both from the planner. text: the planner's words, no image. oracle: both from a `SubgoalSource`.
    shuffled: the planner's words, the image from a `SubgoalSource`. none: no planner, the whole instruction as words.
    """

    PLANNER = "planner"
    TEXT = "text"
    ORACLE = "oracle"
    SHUFFLED = "shuffled"
    NONE = "none"

    @property
    def needs_planner(self) -> bool:
        return self in (GoalMode.PLANNER, GoalMode.TEXT, GoalMode.SHUFFLED)

    @property
    def needs_source(self) -> bool:
        return self in (GoalMode.ORACLE, GoalMode.SHUFFLED)


@dataclass(frozen=True, kw_only=True)
class ChunkConfig:
    """How the action head samples a chunk."""

    flow_steps: int = number(8, 1, 1000)
    """Euler steps per chunk."""
    noise_scale: float = number(0.0, 0.0, 10.0)
    """Scale of the starting noise: 1 samples the learned distribution, 0 takes its centre, for steadier hands."""

    def __post_init__(self) -> None:
        check_ranges(self, "chunk")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Everything that can be set about planner and action head together."""

    goal: GoalMode = GoalMode.PLANNER
    """Where subtask and subgoal image come from, see `GoalMode`."""
    n_action_steps: int = number(8, 1, 1000)
    """Actions of each chunk that are executed before the next one [control ticks]."""
    whole_chunks: bool = False
    """Return the other actions of a chunk, too."""
    chunk: ChunkConfig = field(default_factory=ChunkConfig)
    """How a chunk is sampled."""
    replan: ReplanConfig = field(default_factory=ReplanConfig)
    """When the next step is planned."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """How the planner draws subgoal images."""
    int8: bool = True
    """Let the planner compute in int8 where that is faster."""

    def __post_init__(self) -> None:
        check_ranges(self)
