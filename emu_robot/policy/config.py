"""What a policy can be set to."""

from dataclasses import dataclass, field
from enum import StrEnum

from emu_robot.errors import ConfigError
from emu_robot.planner.decoding.config import DecoderConfig
from emu_robot.planner.subtask_monitor import SubtaskMonitorConfig


class GoalMode(StrEnum):
    """Where subtask and subgoal image come from.

    planner: both from the planner. text: the planner's words, no image. oracle: both from `subgoal_source`.
    shuffled: the planner's words, the image from `subgoal_source`. none: no planner, the whole instruction as words.
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


@dataclass(kw_only=True)
class PolicyConfig:
    """n_action_steps: actions of each chunk that are executed [control ticks]; whole_chunks: return the others, too;
    flow_steps: Euler steps per chunk;
    noise_scale: of the starting noise, 1 samples the learned distribution, 0 takes its centre (steadier hands: of 15
    single tasks 13 succeeded with 0, 3 with 1). decoder: how the planner draws subgoals; int8: and
    whether it computes in int8 where that is faster.
    """

    goal: GoalMode = GoalMode.PLANNER
    n_action_steps: int = 8
    whole_chunks: bool = False
    flow_steps: int = 8
    noise_scale: float = 0.0
    monitor: SubtaskMonitorConfig = field(default_factory=SubtaskMonitorConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    int8: bool = True

    def __post_init__(self) -> None:
        if self.n_action_steps < 1 or self.flow_steps < 1 or self.noise_scale < 0:
            raise ConfigError("n_action_steps and flow_steps must be at least 1, noise_scale not negative")
