"""When a subtask counts as reached, and when to give up waiting. Knows neither images nor networks."""

from dataclasses import dataclass
from enum import Enum

from emu_robot.errors import ConfigError


@dataclass(kw_only=True)
class SubtaskMonitorConfig:
    """progress_threshold: the head's progress from which on a subtask counts as reached; dwell: for how many chunks
    in a row. timeout_factor: patience, times the 90th percentile of a subtask's length in the demonstrations.
    recheck_chunks: how often a plan held complete is questioned again.
    """

    progress_threshold: float = 0.9
    dwell: int = 2
    timeout_factor: float = 1.75
    recheck_chunks: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.progress_threshold <= 1:
            raise ConfigError(f"progress_threshold is {self.progress_threshold}, must lie in (0, 1]")
        if self.dwell < 1 or self.recheck_chunks < 1 or self.timeout_factor <= 0:
            raise ConfigError("dwell and recheck_chunks must be at least 1, timeout_factor positive")


class Verdict(Enum):
    """What to do about the subtask being pursued."""

    CONTINUE = "continue"
    REACHED = "switched"
    TIMEOUT = "timeout"


class SubtaskMonitor:
    """Follows one subtask at a time from the progress of its chunks."""

    def __init__(self, config: SubtaskMonitorConfig, *, steps_per_chunk: int, segment_steps_p90: float) -> None:
        self._config = config
        self._most_chunks = max(config.dwell, round(config.timeout_factor * segment_steps_p90 / steps_per_chunk))
        self.start()

    @property
    def most_chunks(self) -> int:
        """How many chunks a subtask is given."""
        return self._most_chunks

    def start(self) -> None:
        """A subtask begins."""
        self._chunks = 0
        self._reached_in_a_row = 0

    def update(self, progress: float) -> Verdict:
        """Judge from the progress seen before the next chunk."""
        self._chunks += 1
        reached = progress >= self._config.progress_threshold
        self._reached_in_a_row = self._reached_in_a_row + 1 if reached else 0
        if self._reached_in_a_row >= self._config.dwell:
            return Verdict.REACHED
        if self._chunks > self._most_chunks:
            return Verdict.TIMEOUT
        return Verdict.CONTINUE


class CompletionWatch:
    """Counts the chunks since the plan was held complete, so that it is questioned now and then."""

    def __init__(self, config: SubtaskMonitorConfig) -> None:
        self._every = config.recheck_chunks
        self.declared = False
        self._chunks = 0

    def declare(self, complete: bool) -> None:
        """The planner's latest word."""
        self.declared, self._chunks = complete, 0

    def due(self) -> bool:
        """Whether to ask the planner again at this chunk."""
        self._chunks += 1
        return self._chunks >= self._every
