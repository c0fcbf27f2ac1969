"""Progress display of long work: a bar on a terminal, else a plain line every 30 s."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_INTERVAL_S = 30.0


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """Yield report(note), to be called once per finished item."""
    console = Console()
    if not console.is_terminal:
        yield _plain_reporter(what, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as bar:
        task = bar.add_task(what, total=total, note="")
        yield lambda note: bar.update(task, advance=1, note=note)


def _plain_reporter(what: str, total: int) -> Callable[[str], None]:
    start = last = time.monotonic()
    n_done = 0

    def report(note: str) -> None:
        nonlocal last, n_done
        n_done += 1
        now = time.monotonic()
        if n_done == total or now - last >= PLAIN_INTERVAL_S:
            last = now
            left = (now - start) / n_done * (total - n_done)
            print(f"{what}: {n_done}/{total}, about {left:.0f} s left {note}".rstrip(), flush=True)

    return report
