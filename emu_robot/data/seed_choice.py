"""Which seeds demonstrations use, and which of them a collection tries next. Knows no files."""

from collections.abc import Iterator, Mapping, Sequence

SEED_LIMIT = 10_000_000
"""Demonstrations use seeds below it, evaluations this one and those above."""
FIRST_OWN_SEED = 1_000_000
"""In environments with seeds of their own (`NumbersSeeds`) evaluations use seeds below it, demonstrations the rest."""


def untried_seeds(left: Sequence[int], tasks: Sequence[str], successes: Mapping[str, int], wanted: int) -> list[int]:
    """The next seeds to try, task by task: of each task as many as it lacks successes, fewer if its seeds run out.

    left: seeds that were not tried, in order; a seed belongs to task seed modulo the number of tasks. Repeated until
    none is left, this gives no task more than `wanted` successes, and the same seeds after any interruption.
    """
    chosen: list[int] = []
    for i, task in enumerate(tasks):
        own = [seed for seed in left if seed % len(tasks) == i]
        chosen += own[: max(0, wanted - successes.get(task, 0))]
    return chosen


def shortfalls(tasks: Sequence[str], successes: Mapping[str, int], wanted: int) -> Iterator[str]:
    """A line for each task with fewer successes than wanted."""
    for task in tasks:
        if successes.get(task, 0) < wanted:
            yield f"{task} has {successes.get(task, 0)} of {wanted} episodes"
