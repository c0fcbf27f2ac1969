"""Runs numbered, independent pieces of work on several processes with one thread each. Knows nothing of robots."""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from typing import Any, Protocol

from emu_robot.errors import EmuRobotError, SystemSetupError


class Runner[Result](Protocol):
    """Does the pieces of work. A result must depend on the index alone, not on earlier pieces."""

    def run(self, index: int) -> Result: ...

    def close(self) -> None: ...


def run_parallel[Result](
    make_runner: Callable[[], Runner[Result]], indices: Sequence[int], workers: int
) -> Generator[Result]:
    """Yield the results in the order in which they finish. `make_runner` must be picklable.

    `make_runner` is called once per process; workers=0 works in this process. Work begins in the order of `indices`.
    An `EmuRobotError` of a worker is raised here with its kind and message. If a process dies, its pieces run again.
    Raises `SystemSetupError` if processes die without finishing any piece.
    """
    if not indices:
        return
    if workers == 0:
        with closing(make_runner()) as runner:
            yield from map(runner.run, indices)
        return
    pending = set(indices)
    while pending:
        before = len(pending)
        try:
            for index, result in _run_pool(make_runner, [index for index in indices if index in pending], workers):
                pending.discard(index)
                yield result
        except BrokenProcessPool as error:
            if len(pending) == before:
                raise SystemSetupError(
                    "a worker process died, perhaps for lack of memory; try fewer workers"
                ) from error
            print(f"a worker process died; {len(pending)} of {before} pieces are run by new ones", file=sys.stderr)


def _run_pool[Result](
    make_runner: Callable[[], Runner[Result]], indices: Sequence[int], workers: int
) -> Generator[tuple[int, Result]]:
    pool = ProcessPoolExecutor(
        max_workers=min(workers, len(indices)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(make_runner,),
    )
    try:
        futures = {pool.submit(_run, index): index for index in indices}
        for future in as_completed(futures):
            result, error = future.result()
            if error is not None:
                raise _revive(*error)
            yield futures[future], result
    finally:
        pool.shutdown(cancel_futures=True)


_make_runner: Callable[[], Runner[Any]] | None = None
_runner: Runner[Any] | None = None


def _start(make_runner: Callable[[], Runner[Any]]) -> None:
    """Prepare this process. It ends with its parent, also if the parent is killed or interrupted."""
    global _make_runner
    parent = multiprocessing.parent_process()
    assert parent is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # torch reads them when first imported
    _make_runner = make_runner


def _run(index: int) -> tuple[Any, tuple[type[EmuRobotError], str] | None]:
    """Returns (result, None), or (None, kind and message of an error): typed errors do not survive pickling."""
    global _runner
    assert _make_runner is not None, "_start prepares the process"
    try:
        if _runner is None:
            _runner = _make_runner()
            result = _runner.run(index)
            atexit.register(_runner.close)  # after the first piece, so that it runs before the libraries' own endings
            return result, None
        return _runner.run(index), None
    except EmuRobotError as error:
        return None, (type(error), str(error))


def _revive(kind: type[EmuRobotError], message: str) -> EmuRobotError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error
