"""Success of a policy on the reported seeds: every cell of RESULTS' closed-loop table, as a table.

python benchmarks/closed_loop.py [weights] [--seeds 1 2 3] [--n 100] [--workers 2] [--out outputs/closed_loop]

A cell is an `emu-robot eval` for each seed, n episodes each. An interrupted run continues. Recipes and weights are
chosen on seed 0; the seeds here are for reporting, once.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emu_robot.evaluation.config import EvalConfig
from emu_robot.evaluation.records import EpisodeRecord, per_task, successes
from emu_robot.evaluation.rollouts import evaluate
from emu_robot.policy.config import GoalMode


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    tasks: str
    """Group of tasks."""
    split: str
    """Split of the layouts."""
    goal: GoalMode
    """Source of the subgoals."""


CELLS = (
    Cell("long", "heldout", GoalMode.PLANNER),
    Cell("single", "heldout", GoalMode.PLANNER),
    Cell("long", "seen", GoalMode.PLANNER),
    Cell("single", "seen", GoalMode.PLANNER),
    Cell("long", "heldout", GoalMode.ORACLE),
    Cell("single", "seen", GoalMode.ORACLE),
    Cell("long", "heldout", GoalMode.NONE),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", default="mini")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("outputs/closed_loop"))
    wanted = parser.parse_args()
    rows = [(cell, {seed: play(cell, seed, wanted) for seed in wanted.seeds}) for cell in CELLS]
    text = table(rows, wanted.seeds)
    (wanted.out / "closed_loop.md").write_text(text)
    print(text)


def play(cell: Cell, seed: int, wanted: argparse.Namespace) -> Sequence[EpisodeRecord]:
    """The episodes of one cell with one seed."""
    config = EvalConfig(
        policy=wanted.weights,
        tasks=[cell.tasks],
        split=cell.split,
        goal=cell.goal,
        seed=seed,
        n=wanted.n,
        workers=wanted.workers,
        videos=0,
        resume=True,
        out=wanted.out / f"{cell.goal}_{cell.tasks}_{cell.split}_{seed}",
    )
    return evaluate(config).records


def table(rows: Sequence[tuple[Cell, dict[int, Sequence[EpisodeRecord]]]], seeds: Sequence[int]) -> str:
    """Markdown: success over all seeds, of each seed, and of each task."""
    lines = [f"| goal | tasks | split | success | {' | '.join(f'seed {seed}' for seed in seeds)} | of each task |"]
    lines.append("|---|---|---|---|" + "---|" * len(seeds) + "---|")
    for cell, played in rows:
        records = [record for seed in seeds for record in played[seed]]
        counts = [f"{successes(played[seed]).successes}/{len(played[seed])}" for seed in seeds]
        tasks = {name: successes(some) for name, some in per_task(records).items()}
        each = ", ".join(f"{name} {found.successes}/{found.n}" for name, found in tasks.items())
        names = f"{cell.goal} | {cell.tasks} | {cell.split}"
        lines.append(f"| {names} | {successes(records)} | {' | '.join(counts)} | {each} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
