"""One self-contained HTML file per evaluation: no external requests, readable on a phone, prints to PDF."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emu_robot.evaluation.config import EvalConfig
from emu_robot.evaluation.failures import failure_kinds
from emu_robot.evaluation.info import failure_counts
from emu_robot.evaluation.records import (
    EpisodeRecord,
    group_means,
    mean_over_tasks,
    per_composition,
    per_group,
    per_task,
    successes,
)
from emu_robot.evaluation.statistics import Mean, Proportion
from emu_robot.shared.html import file_url, write_html

FIRST_SHOWN = 12
"""Number of first episodes that are shown in pictures."""
FAILURES_SHOWN = 12
"""Number of later failed episodes that are shown in pictures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the success table."""

    name: str
    """Task, or "all"."""
    group: str
    """Groups of the episodes."""
    success: Proportion
    """Successful episodes over all."""
    subtasks: Proportion
    """Completed subtasks over all."""
    words: Proportion
    """Plan steps with the right words over those with known words."""
    seconds: float | None
    """Mean duration of successful episodes [s]; None without one."""


def write_report(path: Path, config: EvalConfig, records: Sequence[EpisodeRecord], info: dict[str, Any]) -> None:
    """Write the report of the episodes, whole or not at all. Pictures and clips are read from `config.out`."""
    first, spec = list(records[:FIRST_SHOWN]), config.suite().spec
    kinds, groups = failure_kinds(spec), per_group(records)
    further = [record for record in records[FIRST_SHOWN:] if not record.success][:FAILURES_SHOWN]
    write_html(
        path,
        Path(__file__).with_name("report.html.j2"),
        media=lambda name: file_url(config.out / name),
        config=config,
        info=info,
        spec=spec,
        total=row_of("all", records),
        rows=[row_of(name, some) for name, some in per_task(records).items()],
        means=_means(records) if len(per_task(records)) > 1 else {},
        n_groups=len(groups),
        compositions={name: row_of(name, some) for name, some in per_composition(records).items()},
        failures=[
            {"kind": kind, "count": count, "means": kinds[kind], "examples": _examples(records, kind)}
            for kind, count in failure_counts(records).items()
        ],
        n_failed=sum(not record.success for record in records),
        clips=[record for record in records if record.clip],
        first=first,
        further=further,
        records=records,
    )


def row_of(name: str, records: Sequence[EpisodeRecord]) -> Row:
    """The line of these episodes."""
    done = [flag for record in records for flag in record.subtasks_done]
    right = [step.right for record in records for step in record.steps if step.right is not None]
    seconds = [record.n_steps / record.control_hz for record in records if record.success]
    return Row(
        name=name.replace("_", " "),
        group=", ".join(per_group(records)).replace("_", " "),
        success=successes(records),
        subtasks=Proportion(sum(done), len(done)),
        words=Proportion(sum(right), len(right)),
        seconds=sum(seconds) / len(seconds) if seconds else None,
    )


def _means(records: Sequence[EpisodeRecord]) -> dict[str, Mean]:
    """Name of the mean -> its value."""
    named = {name.replace("_", " "): mean for name, mean in group_means(records).items()}
    return {"all, mean over tasks": mean_over_tasks(records)} | named


def _examples(records: Sequence[EpisodeRecord], kind: str) -> list[EpisodeRecord]:
    return [record for record in records if record.failure == kind][:4]
