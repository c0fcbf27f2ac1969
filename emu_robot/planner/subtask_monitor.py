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
        self._reached_in_a_row = self._over_in_a_row = 0
        self._was_lower = self._reached = False

    def update(self, progress: float) -> tuple[PolicyEvent, ...]:
        """Count a chunk with its progress in [0, 1]. Returns `REACHED` once, when progress rises to its threshold, and
        `SWITCHED` or `TIMEOUT` if the subtask is over."""
        events = []
        reaches = progress >= self._config.reached_threshold
        self._was_lower |= not reaches
        self._reached_in_a_row = self._reached_in_a_row + 1 if reaches else 0
        if self._was_lower and not self._reached and self._reached_in_a_row >= self._config.reached_dwell:
            self._reached = True
            events.append(PolicyEvent.REACHED)
        self._chunks += 1
        self._over_in_a_row = self._over_in_a_row + 1 if progress >= self._config.progress_threshold else 0
        if self._over_in_a_row >= self._config.dwell:
            events.append(PolicyEvent.SWITCHED)
        elif self._chunks > self.most_chunks:
            events.append(PolicyEvent.TIMEOUT)
        return tuple(events)
