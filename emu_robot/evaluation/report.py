"""One self-contained HTML file per evaluation: no external requests, readable on a phone, prints to PDF."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emu_robot.evaluation.config import EvalConfig
from emu_robot.evaluation.failures import KINDS
from emu_robot.evaluation.info import failure_counts
from emu_robot.evaluation.records import EpisodeRecord, per_family, successes
from emu_robot.evaluation.statistics import Proportion
from emu_robot.shared.html import file_url, write_html

FIRST_SHOWN = 12
"""Episodes shown in pictures because they come first."""
FAILURES_SHOWN = 12
"""Failed episodes shown in pictures beyond those."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the success table. subtasks: completed ones over all; words: plan steps with the right words."""

    name: str
    success: Proportion
    subtasks: Proportion
    words: Proportion
    seconds: float | None


def write_report(path: Path, config: EvalConfig, records: Sequence[EpisodeRecord], info: dict[str, Any]) -> None:
    """Write the report of some episodes, whole or not at all; pictures and clips are read from `config.out`."""
    first = list(records[:FIRST_SHOWN])
    further = [record for record in records[FIRST_SHOWN:] if not record.success][:FAILURES_SHOWN]
    write_html(
        path,
        Path(__file__).with_name("report.html.j2"),
        media=lambda name: file_url(config.out / name),
        config=config,
        info=info,
        total=_row("all", records),
        rows=[_row(name, [r for r in records if r.family == name]) for name in per_family(records)],
        failures=[
            {"kind": kind, "count": count, "means": KINDS[kind], "examples": _examples(records, kind)}
            for kind, count in failure_counts(records).items()
        ],
        n_failed=sum(not record.success for record in records),
        clips=[record for record in records if record.clip],
        first=first,
        further=further,
        records=records,
    )


def _row(name: str, records: Sequence[EpisodeRecord]) -> Row:
    done = [flag for record in records for flag in record.subtasks_done]
    right = [step.right for record in records for step in record.steps if step.right is not None]
    seconds = [record.n_steps / record.control_hz for record in records if record.success]
    return Row(
        name=name.replace("_", " "),
        success=successes(records),
        subtasks=Proportion(sum(done), len(done)),
        words=Proportion(sum(right), len(right)),
        seconds=sum(seconds) / len(seconds) if seconds else None,
    )


def _examples(records: Sequence[EpisodeRecord], kind: str) -> list[EpisodeRecord]:
    return [record for record in records if record.failure == kind][:4]
