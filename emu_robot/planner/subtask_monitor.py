"""When a subtask counts as reached, and when to give up waiting. Knows neither images nor networks."""

from enum import Enum

from emu_robot.planner.config import ReplanConfig


class Verdict(Enum):
    """What to do about the subtask being pursued."""

    CONTINUE = "continue"
    REACHED = "switched"
    TIMEOUT = "timeout"


class SubtaskMonitor:
    """Follows one subtask at a time from the progress of its chunks."""

    def __init__(self, config: ReplanConfig, *, steps_per_chunk: int, segment_steps_p90: float) -> None:
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

    def __init__(self, config: ReplanConfig) -> None:
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
