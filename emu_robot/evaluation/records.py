"""Records of evaluated episodes: plain values that are written as JSON and read back equal."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emu_robot.core import PolicyEvent
from emu_robot.errors import DataError, InvalidValueError
from emu_robot.evaluation.statistics import Mean, Proportion
from emu_robot.shared.files import replace_json
from emu_robot.shared.typed import build
from emu_robot.shared.words import same_words


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """One pursued plan step. Picture files are relative to the evaluation's folder."""

    subtask: str | None
    """The words that the policy followed."""
    truth: str | None
    """The first open subtask when the step was chosen; None if all were done or the environment does not tell."""
    first_tick: int
    """Tick at which the step was chosen."""
    last_tick: int
    """Tick at which the step was left."""
    reached: bool
    """Whether a subtask of these words was completed during the step."""
    before: str | None = None
    """Picture of the view at `first_tick`."""
    predicted: str | None = None
    """Picture of the subgoal; None without one."""
    achieved: str | None = None
    """Picture of the view at `last_tick`."""

    @property
    def right(self) -> bool | None:
        """Whether the words are the true next subtask; None when either is unknown."""
        return None if self.subtask is None or self.truth is None else same_words(self.subtask, self.truth)


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeRecord:
    """One evaluated episode."""

    index: int
    """Number of the layout."""
    task: str
    """The environment's name of the task."""
    group: str
    """The environment's name of the task's group."""
    split: str
    """The environment's name of the split."""
    seed: int
    """The environment's seed."""
    instruction: str
    """The whole task in words."""
    success: bool
    """Whether the environment's success rule held."""
    ending: str
    """A value of `Ending`."""
    n_steps: int
    """Control ticks until the success or the end."""
    n_chunks: int
    """Chunks that the policy gave."""
    subtasks: tuple[str, ...]
    """The true subtasks in words."""
    subtasks_done: tuple[bool, ...]
    """For each subtask, whether it was completed."""
    steps: tuple[StepRecord, ...]
    """The pursued plan steps."""
    events: tuple[tuple[int, PolicyEvent], ...]
    """Ticks and events of the policy."""
    failure: str | None
    """Kind of failure, see `failures`; None on success."""
    detail: str | None
    """One detail of the failure."""
    control_hz: int
    """Control ticks per second [Hz]."""
    max_steps: int
    """Step cap [control ticks]."""
    compositions: tuple[str, ...] = ()
    """Its compositions that the split keeps from demonstrations."""
    clip: str | None = None
    """Clip, relative to the evaluation's folder."""
    sum_reward: float | None = None
    """Sum of the environment's rewards; None without any."""
    max_reward: float | None = None
    """The largest of them."""
    policy_s: float = 0.0
    """Time spent in the policy [s]."""
    wall_s: float = 0.0
    """Duration of the episode on the wall clock [s]."""

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        replace_json(path, dataclasses.asdict(self))

    @classmethod
    def read(cls, path: Path) -> "EpisodeRecord":
        """Read a file that `write` wrote. Raises `DataError` naming the file."""
        try:
            return build(cls, read_json(path), "it")
        except InvalidValueError as error:
            raise DataError(f"{path} is not an episode record: {error}") from error


def rewards_of(record: EpisodeRecord) -> tuple[float, float]:
    """(sum, maximum) of the rewards. An environment without rewards gives 1 at the tick of success, else 0."""
    if record.sum_reward is None or record.max_reward is None:
        return float(record.success), float(record.success)
    return record.sum_reward, record.max_reward


def successes(records: Sequence[EpisodeRecord]) -> Proportion:
    """Success over all given episodes."""
    return Proportion(sum(record.success for record in records), len(records))


def per_task(records: Sequence[EpisodeRecord]) -> dict[str, list[EpisodeRecord]]:
    """Task -> its episodes, in the order in which tasks first appear."""
    return {name: [r for r in records if r.task == name] for name in dict.fromkeys(r.task for r in records)}


def per_group(records: Sequence[EpisodeRecord]) -> dict[str, list[EpisodeRecord]]:
    """Group -> the episodes of its tasks, in the order in which groups first appear."""
    return {name: [r for r in records if r.group == name] for name in dict.fromkeys(r.group for r in records)}


def per_composition(records: Sequence[EpisodeRecord]) -> dict[str, list[EpisodeRecord]]:
    """Kept composition -> the episodes that have it, in the order of their names."""
    names = sorted({name for record in records for name in record.compositions})
    return {name: [r for r in records if name in r.compositions] for name in names}


def mean_over_tasks(records: Sequence[EpisodeRecord]) -> Mean:
    """Success, every task with the same weight."""
    return Mean.of([successes(some) for some in per_task(records).values()])


def mean_over_groups(records: Sequence[EpisodeRecord]) -> Mean:
    """Success, every group with the same weight, and every task within its group."""
    return Mean.over([mean_over_tasks(some) for some in per_group(records).values()])


def group_means(records: Sequence[EpisodeRecord]) -> dict[str, Mean]:
    """The mean over the tasks of each group, and the mean over groups, by their names in tables; {} for one group."""
    groups = per_group(records)
    if len(groups) < 2:
        return {}
    means = {f"{name}, mean over tasks": mean_over_tasks(some) for name, some in groups.items()}
    return means | {"mean over groups": mean_over_groups(records)}


def read_json(path: Path) -> Any:
    """Read a JSON file; raises `DataError` naming it."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
