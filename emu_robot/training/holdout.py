"""The choice of the episodes that no training sees, and of some rows. Every stage and every figure uses this one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu_robot.errors import DataError

type Members = NDArray[np.bool_]


def held_out_episodes(n_completed_E: Sequence[int], share: float) -> Members:
    """(E,) which episodes are held out; none for a share of 0.

    n_completed_E: completed subtasks of each episode. Only episodes that have some count: every `1 / share`-th of them
    is held out, and the last one if they are fewer than that. Raises `DataError` if there are fewer than two.
    """
    usable = np.asarray(n_completed_E) > 0
    held = np.zeros(len(usable), np.bool_)
    if share <= 0:
        return held
    count = int(usable.sum())
    if count < 2:
        raise DataError(
            f"{count} of {len(usable)} episodes have a completed subtask; "
            f"to hold one out (holdout={share:g}), at least 2 must have one"
        )
    period = min(max(round(1 / share), 2), count)
    held[np.flatnonzero(usable)[period - 1 :: period]] = True
    return held


def completed_subtasks(metadata: Sequence[Mapping[str, Any]]) -> list[int]:
    """Number of completed subtasks of each episode of a replay buffer, by its `ReplayBuffer.metadata`."""
    return [len(meta["keyframes"]) for meta in metadata]


def spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of these rows (N, ...), evenly spread, the first and the last among them."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]
