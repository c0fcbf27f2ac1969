"""Reports of a training run: `metrics.jsonl`, a progress bar (plain lines without a terminal), a tracker."""

import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emu_robot.shared.durations import duration, size
from emu_robot.shared.files import replace_text
from emu_robot.shared.memory import peak_bytes
from emu_robot.training.tracking import Tracker

METRICS = "metrics.jsonl"
"""File of a run's metrics, a line at a time."""
FORESEEN_AFTER = 6
"""Steps after which a training says how long it will take; the first one, which is slower, does not count."""


class TrainingProgress:
    """Context manager; `report` appends one line to `path` and shows it. Lines after `start` are dropped on resume.

    tracker: receives the existing lines, then each new one, and is closed at the end.
    """

    def __init__(self, path: Path, stage: str, start: int, steps: int, tracker: Tracker | None = None) -> None:
        self._path, self._stage, self._steps = path, stage, steps
        self._begun, self._start = time.monotonic(), start
        self._first = self._begun
        kept = _lines_until(path, start)
        replace_text(path, "".join(kept))
        self._tracker = tracker
        for line in kept:
            self._track(**json.loads(line))
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[metrics]}"))
            self._task = self._bar.add_task(stage, total=steps, completed=start, metrics="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._tracker is not None:
            self._tracker.close()

    def advance(self, step: int) -> None:
        """Move the bar to `step` finished steps. After the first few, say how long the others will take."""
        if step == self._start + 1:
            self._first = time.monotonic()
        self._foresee(step)
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """Write one line of metrics after `step` steps."""
        elapsed = time.monotonic() - self._begun
        line = {"step": step, "seconds": round(elapsed, 2), **metrics}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._track(**line)
        text = " ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=step, metrics=text)
            return
        left = elapsed / max(step - self._start, 1) * (self._steps - step)
        print(f"{self._stage} {step}/{self._steps} ({left / 60:.0f} min left) {text}", file=sys.stderr, flush=True)

    def _foresee(self, step: int) -> None:
        if step != self._start + FORESEEN_AFTER or step == self._steps:
            return
        step_s = (time.monotonic() - self._first) / (FORESEEN_AFTER - 1)
        left = self._steps - step
        line = f"{self._stage}: about {duration(left * step_s)} for {left} more steps at {step_s:.2f} s"
        line += f"; {size(peak_bytes())} of memory so far"
        if self._bar is not None:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def _track(self, step: int, seconds: float, **metrics: float) -> None:
        if self._tracker is not None:
            self._tracker.log(step, metrics)


def _lines_until(path: Path, step: int) -> list[str]:
    """Metric lines of an interrupted run, up to the step it resumes from, without a half-written last line."""
    if step == 0 or not path.exists():
        return []
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError):
            break
    return kept
