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
) -> Generator[list[Item]]:
    """Yield the result of every index, first those of a stopped run with the same settings, weights and commit.

    item: the dataclass of one item of a result, with JSON values alone. The file `unfinished.jsonl` in `config.out` is
    removed at the end.
    """
    path = config.out / UNFINISHED
    header = json.dumps(config.settings() | {"weights": weights_of(config.policy, "planner"), "commit": commit()})
    kept = _read(path, header)
    done = [index for index in indices if index in kept]
    for index in done:
        yield [item(**values) for values in kept[index]]
    replace_text(path, "".join(f"{line}\n" for line in (header, *(json.dumps([i, kept[i]]) for i in kept))))
    left = [index for index in indices if index not in kept]
    n_done = len(done)
    with path.open("a") as file, closing(run_numbered(make_runner, left, workers)) as results:
        try:
            for index, result in results:
                file.write(json.dumps([index, [asdict(one) for one in result]]) + "\n")  # pyright: ignore
                file.flush()
                n_done += 1
                yield result
        except Interrupted as stop:
            raise Interrupted(
                stop.number, f"{path} keeps {n_done} of {len(indices)} results; the same command continues"
            ) from stop
    path.unlink()


def _read(path: Path, header: str) -> dict[int, list[dict[str, Any]]]:
    """Index -> items of a stopped run with this header, without a half-written last line."""
    if not path.exists():
        return {}
    first, *lines = path.read_text().split("\n")
    return dict(json.loads(line) for line in lines[:-1]) if first == header else {}
