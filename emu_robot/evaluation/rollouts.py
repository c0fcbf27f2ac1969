"""Closed-loop evaluation in parallel processes: from seeds to success with intervals and one report."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from emu_robot.errors import ConfigError
from emu_robot.evaluation import worker
from emu_robot.evaluation.config import EvalConfig, RunnerKind
from emu_robot.evaluation.fit import check_fit, with_goal
from emu_robot.evaluation.info import eval_info
from emu_robot.evaluation.made_with import differences, made_with
from emu_robot.evaluation.ray_runner import run_on_ray
from emu_robot.evaluation.records import (
    EpisodeRecord,
    group_means,
    mean_over_tasks,
    per_task,
    read_json,
    successes,
)
from emu_robot.evaluation.report import write_report
from emu_robot.evaluation.statistics import Proportion
from emu_robot.evaluation.worlds import by_task
from emu_robot.shared.files import replace_json, require_own_folder
from emu_robot.shared.interrupts import Interrupted
from emu_robot.shared.parallel import run_parallel
from emu_robot.shared.progress import progress

__all__ = ["EvalConfig", "EvalResult", "evaluate"]

SETTINGS = "settings.json"
"""File in the folder of an evaluation that says how it was made."""


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """Outcome of an evaluation."""

    config: EvalConfig
    """Settings of the evaluation."""
    records: tuple[EpisodeRecord, ...]
    """Episodes by index."""
    eval_s: float
    """Duration [s]."""
    report: Path
    """The file `report.html`."""
    info: Path
    """The file `eval_info.json`."""

    @property
    def success(self) -> Proportion:
        """Success over all episodes."""
        return successes(self.records)

    @property
    def success_line(self) -> str:
        """For instance "success 87.0% [79.0, 92.2] (87/100)  long, seen, goal=planner"."""
        return f"success {self.success}  {self.config.title}"


def evaluate(config: EvalConfig, policy_factory: worker.PolicyFactory[EvalConfig] = worker.load_policy) -> EvalResult:
    """Run the episodes, write `eval_info.json` and `report.html` into `config.out`, print the success table.

    The factory must be an importable function, because it is sent to other processes. Raises the errors of `check_fit`
    before anything is written, and the typed error of an episode. Finished episodes stay; `resume=true` continues.
    """
    require_own_folder(config.out, SETTINGS, "evaluation")
    config = with_goal(config)
    check_fit(config)  # before a process starts and before old results are removed
    run = _runner_of(config)
    started = time.monotonic()
    made = made_with(config)
    records = _prepare(config, made)
    pending = by_task([index for index in range(config.n) if index not in records], len(config.selected()))
    make_runner = partial(worker.EpisodeRunner, config, policy_factory)
    with (
        progress("evaluating", len(pending)) as report,
        closing(run(make_runner, pending, config.workers)) as finished,
    ):
        try:
            for record in finished:
                records[record.index] = record
                report(f"success {successes(list(records.values()))}")
        except Interrupted as stop:
            kept = f"{config.out} keeps {len(records)} of {config.n} episodes"
            raise Interrupted(stop.number, f"{kept}; resume=true continues") from stop
    ordered = tuple(records[index] for index in range(config.n))
    result = EvalResult(
        config=config,
        records=ordered,
        eval_s=time.monotonic() - started,
        report=config.out / "report.html",
        info=config.out / "eval_info.json",
    )
    info = eval_info(config, ordered, result.eval_s, made)
    replace_json(result.info, info)
    write_report(result.report, config, ordered, info)
    _print(result)
    return result


def _runner_of(config: EvalConfig) -> Callable[..., Generator[EpisodeRecord]]:
    """The function that runs numbered episodes. Raises `ConfigError` for Ray without workers, and if Ray is missing."""
    if config.runner is not RunnerKind.ray:
        return run_parallel
    if config.workers < 1:
        raise ConfigError("runner=ray needs workers=1 or more")
    import_module("ray")  # a missing package is told before anything is written
    return run_on_ray


def _prepare(config: EvalConfig, made: dict[str, Any]) -> dict[int, EpisodeRecord]:
    """Prepare `out`. Returns the episodes to keep: with `resume` those of the same settings, weights and versions."""
    settings_path, folder = config.out / SETTINGS, config.out / "episodes"
    found = sorted(folder.glob("[0-9]*.json"))
    if config.resume and settings_path.exists():
        before = read_json(settings_path)
        changed = [name for name, value in config.settings().items() if before.get(name) != value]
        if changed:
            what = ", ".join(f"{name}={before.get(name)}" for name in changed)
            raise ConfigError(f"{config.out} holds an evaluation with {what}; choose another out=, or resume=false")
        other = differences(before.get("made_with"), made)
        if other:
            what = "; ".join(other)
            raise ConfigError(f"{config.out} was made with {what}; choose another out=, or resume=false")
        return {record.index: record for record in map(EpisodeRecord.read, found) if record.index < config.n}
    for path in found:
        for stale in folder.glob(f"{path.stem}*"):
            stale.unlink()
    replace_json(settings_path, config.settings() | {"made_with": made})
    return {}


def _print(result: EvalResult) -> None:
    tasks = per_task(result.records)
    if len(tasks) > 1:
        table = Table("task", "success [95% interval]", box=None, pad_edge=False)
        rows = [(name, str(successes(some))) for name, some in tasks.items()]
        rows += [(name, str(mean)) for name, mean in group_means(result.records).items()]
        rows.append(("mean over tasks", str(mean_over_tasks(result.records))))
        for name, figures in rows:
            table.add_row(name, figures.replace("[", "\\["))
        Console().print(table)
    print(result.success_line)
    print(f"report {result.report}")
