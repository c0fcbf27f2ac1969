"""What is kept of an evaluated episode: plain values that go to JSON and come back equal."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emu_robot.core import PolicyEvent
from emu_robot.errors import DataError
from emu_robot.evaluation.statistics import Mean, Proportion
from emu_robot.shared.files import replace_json


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """One pursued plan step.

    subtask: the words the policy followed; truth: the first subtask that was really left when it was chosen
    (None when all were done, or the environment does not tell).
    first_tick, last_tick: when it was pursued.
    reached: whether a subtask of these words was completed meanwhile.
    before, predicted, achieved: picture files relative to the evaluation's folder; predicted is None without a subgoal.
    """

    subtask: str | None
    truth: str | None
    first_tick: int
    last_tick: int
    reached: bool
    before: str | None = None
    predicted: str | None = None
    achieved: str | None = None

    @property
    def right(self) -> bool | None:
        """Whether the words are the true next subtask; None when either is unknown."""
        return None if self.subtask is None or self.truth is None else self.subtask == self.truth


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeRecord:
    """One evaluated episode; `failure` names the kind of failure (see `failures`), None on success.

    task, group: by the environment's names.

    subtasks: the true ones; subtasks_done: which were completed. clip: file relative to the evaluation's folder.
    wall_s: wall-clock seconds of the episode; policy_s: those spent in the policy.
    """

    index: int
    task: str
    group: str
    split: str
    seed: int
    instruction: str
    success: bool
    ending: str
    n_steps: int
    n_chunks: int
    subtasks: tuple[str, ...]
    subtasks_done: tuple[bool, ...]
    steps: tuple[StepRecord, ...]
    events: tuple[tuple[int, PolicyEvent], ...]
    failure: str | None
    detail: str | None
    control_hz: int
    clip: str | None = None
    policy_s: float = 0.0
    wall_s: float = 0.0

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        replace_json(path, dataclasses.asdict(self))

    @classmethod
    def read(cls, path: Path) -> "EpisodeRecord":
        """Read what `write` wrote; raises `DataError` naming the file."""
        try:
            fields: dict[str, Any] = read_json(path)
            fields["steps"] = tuple(StepRecord(**step) for step in fields["steps"])
            fields["events"] = tuple((tick, PolicyEvent(event)) for tick, event in fields["events"])
            for name in ("subtasks", "subtasks_done"):
                fields[name] = tuple(fields[name])
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is not an episode record: {error}") from error


def successes(records: Sequence[EpisodeRecord]) -> Proportion:
    """Success over some episodes."""
    return Proportion(sum(record.success for record in records), len(records))


def per_task(records: Sequence[EpisodeRecord]) -> dict[str, list[EpisodeRecord]]:
    """Task -> its episodes, in the order in which tasks first appear."""
    return {name: [r for r in records if r.task == name] for name in dict.fromkeys(r.task for r in records)}


def per_group(records: Sequence[EpisodeRecord]) -> dict[str, list[EpisodeRecord]]:
    """Group -> the episodes of its tasks, in the order in which groups first appear."""
    return {name: [r for r in records if r.group == name] for name in dict.fromkeys(r.group for r in records)}


def mean_over_tasks(records: Sequence[EpisodeRecord]) -> Mean:
    """Success, every task counting the same."""
    return Mean.of([successes(some) for some in per_task(records).values()])


def mean_over_groups(records: Sequence[EpisodeRecord]) -> Mean:
    """Success, every group counting the same, and within a group every task."""
    return Mean.over([mean_over_tasks(some) for some in per_group(records).values()])


def read_json(path: Path) -> Any:
    """Read a JSON file; raises `DataError` naming it."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
