"""Pages drawn from metrics.jsonl: axes that hold the curve, tables that hold the checks."""

import json
from pathlib import Path

import pytest
from html_pages import read_page

from emu_robot.cli import train
from emu_robot.errors import DataError
from emu_robot.training import dida
from emu_robot.training.curves import COLUMNS, Curve, StageMetrics, round_ticks


def write_metrics(folder: Path, *lines: dict[str, float]) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"seconds": 1.0, **line}) + "\n" for line in lines))
    return folder


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 2000, [0, 500, 1000, 1500, 2000]),
        (0.31, 0.78, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]),
        (2, 2, [2, 2.5]),
        (0, 0, [0, 0.2]),
        (-3, 1e5, [-50000, 0, 50000, 100000]),
    ],
)
def test_ticks_are_round_and_hold_the_values(low: float, high: float, expected: list[float]) -> None:
    assert round_ticks(low, high) == expected


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 3000])
def test_no_tick_stands_at_half_a_step(steps):
    curve = StageMetrics(stage="planner", loss=[(0, 2.0), (steps, 1.0)], checks=[]).curve
    assert [label for _, label in curve.x_ticks] == [f"{int(label)}" for _, label in curve.x_ticks]
    assert len({label for _, label in curve.x_ticks}) == len(curve.x_ticks) > 1


def test_a_curve_falls_within_its_axes_and_checks_stand_in_columns(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": 100 / step, "lr": 1e-3} for step in range(50, 1001, 50)]
    checks = [{"step": step, "val_action_mae": step / 1e4} for step in range(100, 1001, 100)]
    checks[-1]["val_late"] = 1.0
    metrics = StageMetrics.read(write_metrics(tmp_path / "head", *lines, *checks))
    points = [tuple(map(float, point.split(","))) for point in metrics.curve.points.split()]
    assert len(points) == 20 and points == sorted(points) and points[-1] == pytest.approx(metrics.curve.last, abs=0.1)
    assert [y for _, y in points] == sorted(y for _, y in points)  # down the page
    assert all(Curve.left <= x <= Curve.right and Curve.top <= y <= Curve.bottom for x, y in points)
    assert metrics.curve.x_ticks[0] == (Curve.left, "0") and metrics.curve.x_ticks[-1] == (Curve.right, "1000")
    steps, rows = metrics.table
    assert len(steps) == COLUMNS and (steps[0], steps[-1]) == (100, 1000)
    assert rows[0] == ("action mae", [step / 1e4 for step in steps])
    assert rows[1] == ("late", [None] * 5 + [1.0])


def test_a_stage_trained_alone_says_where_its_page_is(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(dida, "train", lambda config: write_metrics(config.out / "dida", {"step": 3, "loss": 0.5}))
    train.run(["stage=dida", f"out={tmp_path / 'run'}"])
    assert f"look at {tmp_path / 'run/dida/curves.html'}" in capsys.readouterr().out
    text, pictures = read_page(tmp_path / "run/dida/curves.html")
    assert "run: dida" in text and "0.5 by step 3" in text and "Checks" not in text and not pictures


def test_missing_metrics_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere/metrics.jsonl: not readable"):
        StageMetrics.read(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no loss in 1 lines"):
        StageMetrics.read(write_metrics(tmp_path / "head", {"step": 1, "val_loss": 1.0}))
