"""Subgoals that a planner draws before a training run, block by block into a file. An interrupted run continues it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emu_robot.errors import DataError
from emu_robot.shared.files import replacing
from emu_robot.shared.interrupts import stop_request
from emu_robot.shared.typed import first_line
from emu_robot.training.progress import TrainingProgress

BLOCK = 32
"""Number of images drawn together."""
SAVE_EVERY = 4
"""Number of blocks between two writes of the file."""

type Drawn = dict[str, NDArray]


def draw_in_blocks(path: Path, count: int, draw: Callable[[slice], Drawn]) -> Drawn:
    """Arrays with `count` rows, which `draw` gives slice by slice; kept in `path` (npz).

    Raises `DataError` if `path` holds something else.
    """
    parts = _read(path, count)
    done = _length(parts[0]) if parts else 0
    with (
        TrainingProgress(path.with_suffix(".jsonl"), path.stem, done, count) as progress,
        stop_request(f"the next {BLOCK} images are drawn and saved") as stop,
    ):
        while done < count:
            rows = slice(done, min(done + BLOCK, count))
            parts.append(draw(rows))
            done = rows.stop
            progress.advance(done)
            if done % (BLOCK * SAVE_EVERY) == 0 or done == count or stop.number is not None:
                parts = [{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}]
                _write(path, parts[0])
                progress.report(done, {})
            stop.obey(f"{path} holds {done} of {count} images; the same command continues there")
    return parts[0]


def _length(drawn: Drawn) -> int:
    return len(next(iter(drawn.values())))


def _write(path: Path, drawn: Drawn) -> None:
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **drawn)  # pyright: ignore[reportArgumentType]


def _read(path: Path, count: int) -> list[Drawn]:
    if not path.exists():
        return []
    try:
        with np.load(path, allow_pickle=False) as file:
            drawn = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} does not hold drawn images ({first_line(error)}); remove it to draw them again"
        ) from error
    lengths = {len(array) for array in drawn.values()}
    if len(lengths) != 1 or max(lengths) > count:
        raise DataError(f"{path} holds {lengths} drawn images, expected at most {count}; remove it to draw them again")
    return [drawn]
