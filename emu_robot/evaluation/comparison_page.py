"""`emu-robot report`: evaluations beside each other on one self-contained page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from emu_robot.errors import ConfigError
from emu_robot.evaluation.compared_runs import Run, different_conditions, different_settings, meanings, read_runs
from emu_robot.evaluation.comparison import Comparison, LayoutRow, by_task, layout_rows, overall
from emu_robot.evaluation.info import failure_counts
from emu_robot.evaluation.records import EpisodeRecord, per_task
from emu_robot.evaluation.report import Row, row_of
from emu_robot.shared.html import file_url, write_html
from emu_robot.shared.settings import check_ranges, number

COLOURS = ("#c2442f", "#e08a2e", "#8d6ab8", "#3a6ea5", "#c05a8f", "#6b7f3a", "#4a9aa8", "#7a6a5a")
"""Colours of the kinds of failure, the most frequent first; further ones are grey."""

PER_ROW, SIDE, ROW, GAP, LEFT = 60, 12, 15, 8, 190
"""Layouts per row of the strip of outcomes; size of a square, height of a row, gap between blocks, left edge [px]."""


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Settings of a comparison."""

    runs: list[str] = field(default_factory=list)
    """Folders that `emu-robot eval` wrote, two or more; the first is what the others are compared with."""
    names: list[str] = field(default_factory=list)
    """A name for each; empty: the folders' own."""
    out: Path = Path("outputs/comparison.html")
    """The page."""
    anyway: bool = False
    """Compare runs of different tasks, splits or step caps, too; the page says in what they differ."""
    clips: int = number(6, 0, 100)
    """First layouts of which the clips are shown, as far as the runs have them."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.out.suffix != ".html":
            raise ConfigError(f"out={self.out} must be an .html file")


def compare_runs(config: ReportConfig) -> list[Comparison]:
    """Write the page and print the comparisons.

    Raises `DataError` for a folder without a finished evaluation, and `ConfigError` naming the difference if runs have
    other tasks, splits or step caps, unless `anyway`.
    """
    runs = read_runs(config.runs, config.names)
    different = different_conditions(runs)
    if different and not config.anyway:
        raise ConfigError(
            f"the runs are not comparable: {'; '.join(different)}; anyway=true compares them all the same"
        )
    found = overall(runs)
    write_page(config, runs, found, different)
    width = max(len(run.name) for run in runs)
    for run in runs:
        print(f"{run.name:<{width}}  {row_of('all', run.records).success}")
    for line in (*different, *found):
        print(line)
    print(f"look at {config.out}")
    return found


def write_page(
    config: ReportConfig, runs: Sequence[Run], found: Sequence[Comparison], different: Sequence[str]
) -> Path:
    """Write the page, whole or not at all."""
    tasks = list(dict.fromkeys(task for run in runs for task in per_task(run.records)))
    layouts = layout_rows(runs)
    counts = {run.name: failure_counts(run.records) for run in runs}
    total = {kind: sum(one.get(kind, 0) for one in counts.values()) for own in counts.values() for kind in own}
    kinds = sorted(total, key=lambda kind: (-total[kind], kind))
    filmed = (row for row in layouts if any(episode is not None and episode.clip for episode in row.episodes))
    return write_html(
        config.out,
        Path(__file__).with_name("comparison.html.j2"),
        runs=runs,
        rows=[row_of(run.name, run.records) for run in runs],
        found=found,
        different=different,
        tasks={task: [_task_row(run, task) for run in runs] for task in tasks} if len(tasks) > 1 else {},
        task_tests={(c.task, c.other): c for c in by_task(runs)} if len(tasks) > 1 else {},
        kinds={kind: (COLOURS[i] if i < len(COLOURS) else "#999999") for i, kind in enumerate(kinds)},
        counts=counts,
        meanings=meanings(runs),
        layouts=layouts,
        strip=outcome_strip(runs, layouts),
        differing=[row for row in layouts if row.differs],
        clips=list(islice(filmed, config.clips)),
        clip_of=clip_of,
        first_view=first_view,
        settings=different_settings(runs),
        conditions=runs[0].conditions,
    )


def outcome_strip(runs: Sequence[Run], layouts: Sequence[LayoutRow]) -> dict[str, Any]:
    """Places [px] of one square per layout and run, wrapped into blocks of rows."""
    block = ROW * len(runs) + GAP
    cells, labels = [], []
    for i, row in enumerate(layouts):
        top = i // PER_ROW * block
        for k, (run, episode) in enumerate(zip(runs, row.episodes, strict=True)):
            if i % PER_ROW == 0:
                labels.append({"name": run.name[:20], "y": top + ROW * k + SIDE - 1})
            if episode is not None:
                told = f"{run.name}: {row.instruction} (seed {row.layout[1]}): {episode.failure or 'success'}"
                place = {"x": LEFT + i % PER_ROW * (SIDE + 1), "y": top + ROW * k}
                cells.append(place | {"success": episode.success, "told": told})
    return {"cells": cells, "labels": labels, "side": SIDE, "height": ((len(layouts) - 1) // PER_ROW + 1) * block}


def clip_of(run: Run, episode: EpisodeRecord | None) -> str | None:
    """The clip of an episode as a data URL; None without one."""
    return file_url(run.folder / episode.clip) if episode is not None and episode.clip else None


def first_view(runs: Sequence[Run], row: LayoutRow) -> str | None:
    """The view in which a layout begins as a data URL, from the first run that kept it; None without one."""
    for run, episode in zip(runs, row.episodes, strict=True):
        if episode is not None and episode.steps and episode.steps[0].before:
            return file_url(run.folder / episode.steps[0].before)
    return None


def _task_row(run: Run, task: str) -> Row:
    return row_of(task, per_task(run.records).get(task, []))
