"""Settings of planning: when the next step is asked for. Loads no torch."""

from dataclasses import dataclass

from emu_robot.shared.settings import check_ranges, number


@dataclass(frozen=True, kw_only=True)
class ReplanConfig:
    """When a task asks its planner for the next step. A chunk is one call of the action head."""

    reached_threshold: float = number(0.8, 0.01, 1.0)
    """Progress at which a subtask counts as reached; it must have been lower before."""
    reached_dwell: int = number(1, 1, 100)
    """Chunks in a row that must reach `reached_threshold`."""
    progress_threshold: float = number(0.9, 0.01, 1.0)
    """Progress at which a subtask is over, with the arm back, and the next step is planned."""
    dwell: int = number(2, 1, 100)
    """Chunks in a row that must reach `progress_threshold`."""
    timeout_factor: float = number(1.75, 0.1, 100.0)
    """Time limit of a subtask, as a multiple of the 90th percentile of its length in the demonstrations."""
    recheck_chunks: int = number(4, 1, 1000)
    """Chunks after which the planner is asked again about a task that it declared complete."""
    confirmations: int = number(2, 1, 10)
    """Declarations in a row that the task is complete; then it is over. If there are several, the first may come when
    the last foreseen step counts as reached."""
    max_failures: int = number(3, 1, 100)
    """Failed plans in a row at which the task is given up."""

    def __post_init__(self) -> None:
        check_ranges(self, "replan")
