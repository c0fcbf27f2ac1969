"""Runs numbered measurements, and keeps their results in a file until all are there: a stopped command continues."""

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emu_robot.evaluation.config import LayoutsConfig
from emu_robot.evaluation.made_with import weights_of
from emu_robot.shared.files import replace_text
from emu_robot.shared.interrupts import Interrupted
from emu_robot.shared.parallel import Runner, run_numbered
from emu_robot.shared.provenance import commit

UNFINISHED = "unfinished.jsonl"


def run_kept[Item](
    make_runner: Callable[[], Runner[list[Item]]],
    indices: Sequence[int],
    workers: int,
    config: LayoutsConfig,
    item: Callable[..., Item],
    stages: Sequence[str] = ("planner",),
) -> Generator[list[Item]]:
    """Yield the result of every index, first those of a stopped run with the same settings, weights and commit.

    item: the dataclass of one item of a result, with JSON values alone. The file `unfinished.jsonl` in `config.out` is
    removed at the end. stages: those of the weights that the results depend on.
    """
    path = config.out / UNFINISHED
    header = json.dumps(config.settings() | {"weights": weights_of(config.policy, *stages), "commit": commit()})
    kept = _read(path, header)
    done = [index for index in indices if index in kept]
    for index in done:
        yield [item(**values) for values in kept[index]]
    left = [index for index in indices if index not in kept]
    lines = [header, *(json.dumps([index, kept[index]]) for index in kept)]
    with closing(run_numbered(make_runner, left, workers)) as results:
        try:
            for index, result in results:
                lines.append(json.dumps([index, [asdict(one) for one in result]]))  # pyright: ignore
                done.append(index)
                replace_text(path, "\n".join(lines) + "\n")
                yield result
        except Interrupted as stop:
            raise Interrupted(
                stop.number, f"{path} keeps {len(done)} of {len(indices)} results; the same command continues"
            ) from stop
    path.unlink(missing_ok=True)


def _read(path: Path, header: str) -> dict[int, list[dict[str, Any]]]:
    """Index -> items of a stopped run with this header."""
    if not path.exists():
        return {}
    first, *lines = path.read_text().splitlines()
    return dict(map(json.loads, lines)) if first == header else {}
