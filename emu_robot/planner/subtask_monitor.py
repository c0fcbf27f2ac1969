"""When a subtask counts as reached, and when to give up waiting. Knows neither images nor networks."""

from emu_robot.core import PolicyEvent
from emu_robot.planner.config import ReplanConfig


class SubtaskMonitor:
    """Follows one subtask at a time from the progress of its chunks."""

    def __init__(self, config: ReplanConfig, *, steps_per_chunk: int, segment_steps_p90: float) -> None:
        self._config = config
        self.most_chunks = max(config.dwell, round(config.timeout_factor * segment_steps_p90 / steps_per_chunk))
        """Chunks after which a subtask times out."""
        self.start()

    def start(self) -> None:
        """Begin a subtask."""
        self._chunks = 0
        self._reached_in_a_row = 0

    def update(self, progress: float) -> PolicyEvent | None:
        """Count a chunk with its progress in [0, 1]. Returns `SWITCHED` or `TIMEOUT` if the subtask is over."""
        self._chunks += 1
        reached = progress >= self._config.progress_threshold
        self._reached_in_a_row = self._reached_in_a_row + 1 if reached else 0
        if self._reached_in_a_row >= self._config.dwell:
            return PolicyEvent.SWITCHED
        return PolicyEvent.TIMEOUT if self._chunks > self.most_chunks else None
