"""Metrics of a stage, prepared for a page: the loss as a line, the checks as a table."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from emu_robot.errors import DataError
from emu_robot.shared.html import write_html
from emu_robot.shared.typed import first_line
from emu_robot.training.progress import METRICS

COLUMNS = 6
"""Most checks in a table, spread over the training up to the last one."""
NOTES = {
    "planner": "Shares: of the right words, of tasks rightly or wrongly held complete, of the subgoal's codes.",
    "head": "Mean absolute errors in the units of action and state, and shares; with a subgoal and without.",
}
"""Stage -> explanation of its checks."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A loss over steps, as a drawing of width x height. All places are in px."""

    width: ClassVar[int] = 360
    height: ClassVar[int] = 220
    left: ClassVar[int] = 46
    """Place of the vertical axis."""
    right: ClassVar[int] = 342
    """Right end of the horizontal axis."""
    top: ClassVar[int] = 24
    """Upper end of the vertical axis."""
    bottom: ClassVar[int] = 180
    """Place of the horizontal axis."""
    points: str
    """Points of the polyline, as SVG takes them."""
    last: tuple[float, float]
    """The last point."""
    x_ticks: list[tuple[float, str]]
    """Place and label of every tick of the horizontal axis."""
    y_ticks: list[tuple[float, str]]
    """Place and label of every tick of the vertical axis."""


@dataclass(frozen=True, kw_only=True)
class StageMetrics:
    """Loss and checks of one stage."""

    stage: str
    """Name of the stage."""
    loss: list[tuple[int, float]]
    """(step, mean loss since the line before)."""
    checks: list[tuple[int, dict[str, float]]]
    """(step, metrics) of every validation, in order."""

    @classmethod
    def read(cls, folder: Path) -> "StageMetrics":
        """Read the metrics of the stage trained in `folder`. Raises `DataError` if nothing is recorded there."""
        path = folder / METRICS
        try:
            lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not readable metrics ({first_line(error)})") from error
        loss = [(line["step"], line["loss"]) for line in lines if "loss" in line]
        if not loss:
            raise DataError(f"{path}: no loss in {len(lines)} lines")
        checks = [(line.pop("step"), line) for line in lines if "loss" not in line]
        for _step, metrics in checks:
            del metrics["seconds"]
        return cls(stage=folder.name, loss=loss, checks=checks)

    @property
    def curve(self) -> Curve:
        """The loss as a line from step 0 to the last step."""
        steps, values = (np.array(column, float) for column in zip(*self.loss, strict=True))
        xs, ys = round_ticks(0, steps[-1], finest=1.0), round_ticks(values.min(), values.max())
        x = Curve.left + (Curve.right - Curve.left) / steps[-1] * np.array([*steps, *xs])
        y = Curve.bottom - (Curve.bottom - Curve.top) / (ys[-1] - ys[0]) * (np.array([*values, *ys]) - ys[0])
        n = len(steps)
        return Curve(
            points=" ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x[:n], y[:n], strict=True)),
            last=(float(x[n - 1]), float(y[n - 1])),
            x_ticks=[(at, f"{tick:.0f}") for at, tick in zip(x[n:].tolist(), xs, strict=True) if tick <= steps[-1]],
            y_ticks=[(at, f"{tick:g}") for at, tick in zip(y[n:].tolist(), ys, strict=True)],
        )

    @property
    def table(self) -> tuple[list[int], list[tuple[str, list[float | None]]]]:
        """Steps of at most `COLUMNS` checks, and per metric its values there; None where it was not measured."""
        chosen = np.linspace(0, len(self.checks) - 1, min(COLUMNS, len(self.checks))).round().astype(int)
        checks = [self.checks[i] for i in chosen]
        names = dict.fromkeys(name for _step, metrics in checks for name in metrics)
        rows = [
            (name.removeprefix("val_").replace("_", " "), [metrics.get(name) for _step, metrics in checks])
            for name in names
        ]
        return [step for step, _metrics in checks], rows

    @property
    def note(self) -> str:
        return NOTES.get(self.stage, "")


def round_ticks(low: float, high: float, most: int = 5, finest: float = 0.0) -> list[float]:
    """At most `most` + 2 equidistant round numbers, the first at or below `low`, the last at or above `high`.

    finest: the smallest distance.
    """
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = max(next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= most), finest)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def write_curves(folder: Path) -> Path:
    """Write curves.html of the stage trained in `folder`. Returns its path."""
    return write_html(
        folder / "curves.html",
        Path(__file__).with_name("curves.html.j2"),
        title=f"{folder.parent.name}: {folder.name}",
        stages=[StageMetrics.read(folder)],
    )
