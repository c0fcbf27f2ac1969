"""Effect of fewer passes per subgoal: success, words, image and time of every decoder, as table and plot.

python benchmarks/decoder_curve.py [weights ...] [--steps 1 2 4 8 16 25] [--tasks all] [--n 200] [--out outputs/curve]

weights: released names or folders. Each is measured with its noise path, the first one also one code at a time. Every
cell is an `emu-robot eval` and an `emu-robot measure planner` of the same layouts. An interrupted run continues.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib

from emu_robot.environments import make
from emu_robot.evaluation.config import EvalConfig
from emu_robot.evaluation.plan_accuracy import PlanAccuracyConfig, plan_accuracy
from emu_robot.evaluation.rollouts import evaluate
from emu_robot.evaluation.statistics import Proportion, barnard
from emu_robot.models.weights import resolve_weights
from emu_robot.planner.decoding.config import Decoder, DecoderConfig
from emu_robot.planner.planner import Planner
from emu_robot.policy.weights_contract import planner_path

matplotlib.use("svg")
from latency import milliseconds
from matplotlib import pyplot
from matplotlib.ticker import LogLocator, NullFormatter

SPLITS = ("seen", "heldout")


@dataclass(frozen=True)
class Cell:
    """One point of the curve."""

    weights: str
    """Released name or weights folder."""
    path: str
    """Noise path of the weights."""
    steps: int
    """Passes per image; 0: one code at a time."""
    split: str
    """Split of the layouts."""

    @property
    def name(self) -> str:
        return f"{self.path}-{self.steps}-{self.split}" if self.steps else f"ar-{self.split}"

    @property
    def line(self) -> str:
        return self.path if self.steps else "one code at a time"

    @property
    def label(self) -> str:
        return f"DiDA {self.path}, {self.steps}" if self.steps else self.line

    @property
    def decoder(self) -> Decoder:
        return Decoder.DIDA if self.steps else Decoder.AR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="*", default=["mini"])
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 2, 4, 8, 16, 25])
    parser.add_argument("--tasks", nargs="+", default=["all"])
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("outputs/curve"))
    wanted = parser.parse_args()
    rows = [(cell, measure(cell, wanted)) for cell in cells(wanted)]
    (wanted.out / "curve.json").write_text(json.dumps([vars(cell) | found for cell, found in rows], indent=1) + "\n")
    (wanted.out / "curve.md").write_text(table(rows))
    plot(rows, wanted.out / "curve.svg")
    print(table(rows))
    print(f"plot {wanted.out / 'curve.svg'}")


def cells(wanted: argparse.Namespace) -> Iterator[Cell]:
    for i, weights in enumerate(wanted.weights):
        path = planner_path(resolve_weights(weights))
        for steps in ([0] if i == 0 else []) + wanted.steps:
            for split in wanted.splits:
                yield Cell(weights, path, steps, split)


def measure(cell: Cell, wanted: argparse.Namespace) -> dict[str, Any]:
    """Success, share of right words, distance of the image, and milliseconds of a planned step."""
    folder = wanted.out / cell.name
    layouts: dict[str, Any] = {
        "policy": cell.weights, "split": cell.split, "tasks": wanted.tasks, "n": wanted.n, "decoder": cell.decoder,
        "decoder_steps": max(cell.steps, 1), "workers": wanted.workers,
    }  # fmt: skip
    result = evaluate(EvalConfig(**layouts, videos=0, resume=True, out=folder / "eval"))
    kept = folder / "plans" / "plan_accuracy.json"
    if kept.exists():
        plans = json.loads(kept.read_text())
    else:
        plans = plan_accuracy(PlanAccuracyConfig(**layouts, out=kept.parent))
    return {
        "n_success": result.success.successes,
        "n": result.success.n,
        "words": plans["next_subtask"]["text"],
        "position_error": plans["position_error"]["median"],
        "mae": plans["mae"]["median"],
        "ms": step_ms(cell.weights, cell.decoder, max(cell.steps, 1)),
    }


@cache
def step_ms(weights: str, decoder: Decoder, steps: int) -> float:
    """Median CPU time of one planned step on one thread; the same for both splits."""
    planner = Planner.load(weights, decoder=DecoderConfig(kind=decoder, steps=steps), int8=True)
    environment = make("tabletop", tasks="pick_place")
    observation = environment.reset(10_000_000)
    instruction = environment.instruction
    environment.close()
    return milliseconds(lambda: planner.plan(observation, instruction, max_steps=1))[0]


def table(rows: list[tuple[Cell, dict[str, Any]]]) -> str:
    """Markdown. p is of Barnard's test against the success of one code at a time on the same split."""
    lines = ["| decoder | split | success | p | next subtask right | object [px] | changed pixels | ms |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    base = {cell.split: _success(found) for cell, found in rows if cell.steps == 0}
    for cell, found in rows:
        success = _success(found)
        p = f"{barnard(base[cell.split], success):.2f}" if cell.steps and cell.split in base else ""
        lines.append(
            f"| {cell.label} | {cell.split} | {success} | {p} | {found['words']} | {found['position_error']:.2f} "
            f"| {found['mae']:.1f} | {found['ms']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def plot(rows: list[tuple[Cell, dict[str, Any]]], path: Path) -> None:
    """Success with 95 % intervals against the time of a planned step."""
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharex=True, sharey=True, layout="constrained")
    for axis, split in zip(axes, SPLITS, strict=True):
        for name in dict.fromkeys(cell.line for cell, _ in rows):
            points = [(cell, found) for cell, found in rows if cell.split == split and cell.line == name]
            x = [found["ms"] for _, found in points]
            shares = [_success(found) for _, found in points]
            y = [100 * share.rate for share in shares]
            below, above = zip(*(share.interval for share in shares), strict=True) if shares else ((), ())
            error = [[v - 100 * low for v, low in zip(y, below, strict=True)],
                     [100 * high - v for v, high in zip(y, above, strict=True)]]  # fmt: skip
            axis.errorbar(x, y, yerr=error, marker="o", capsize=3, label=name)
            for (cell, _), here in zip(points, zip(x, y, strict=True), strict=True):
                axis.annotate(str(cell.steps or ""), here, textcoords="offset points", xytext=(5, 5))
        axis.set(title=f"{split} tasks", xlabel="one planned step, one CPU thread [ms]", xscale="log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:.0f}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="success [%]", ylim=(0, 100))
    axes[1].legend(title="numbers: passes per image")
    figure.savefig(path)


def _success(found: dict[str, Any]) -> Proportion:
    return Proportion(found["n_success"], found["n"])


if __name__ == "__main__":
    main()
