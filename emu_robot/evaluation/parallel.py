"""Numbered, independent pieces of work on several processes, each with one thread. Knows nothing of robots."""

import atexit
import multiprocessing
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from typing import Any, Protocol

from emu_robot.errors import EmuRobotError


class Runner[Result](Protocol):
    """Does piece `index`; what comes out must depend on the index alone, not on what was run before."""

    def run(self, index: int) -> Result: ...

    def close(self) -> None: ...


def run_parallel[Result](
    make_runner: Callable[[], Runner[Result]], indices: Sequence[int], workers: int
) -> Generator[Result]:
    """The results as they finish, in any order. `make_runner` must be picklable; it is called once per process.

    workers=0 works in this process. A user's error in a worker is raised here with its kind and message.
    """
    if not indices:
        return
    if workers == 0:
        with closing(make_runner()) as runner:
            yield from map(runner.run, indices)
        return
    pool = ProcessPoolExecutor(
        max_workers=min(workers, len(indices)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(make_runner,),
    )
    try:
        for future in as_completed([pool.submit(_run, index) for index in indices]):
            result, error = future.result()
            if error is not None:
                raise _revive(*error)
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


_make_runner: Callable[[], Runner[Any]] | None = None
_runner: Runner[Any] | None = None


def _start(make_runner: Callable[[], Runner[Any]]) -> None:
    global _make_runner
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # torch reads them when first imported
    _make_runner = make_runner


def _run(index: int) -> tuple[Any, tuple[type[EmuRobotError], str] | None]:
    """(result, None), or (None, kind and message of a user's error): typed errors do not survive pickling."""
    global _runner
    assert _make_runner is not None, "_start prepares the process"
    try:
        if _runner is None:
            _runner = _make_runner()
            atexit.register(_runner.close)
        return _runner.run(index), None
    except EmuRobotError as error:
        return None, (type(error), str(error))


def _revive(kind: type[EmuRobotError], message: str) -> EmuRobotError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error
