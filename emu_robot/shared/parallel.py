"""Runs numbered, independent pieces of work on several processes with one thread each. Knows nothing of robots."""

import atexit
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from itertools import islice
from typing import Any, Protocol

from emu_robot.errors import EmuRobotError, SystemSetupError
from emu_robot.shared.interrupts import StopRequest, children_without_interrupts, stop_request

type Outcome = tuple[Any, tuple[type[EmuRobotError], str] | None]
"""(result, None), or (None, kind and message of an error): typed errors do not survive pickling."""


class Runner[Result](Protocol):
    """Does the pieces of work. A result must depend on the index alone, not on earlier pieces."""

    def run(self, index: int) -> Result: ...

    def close(self) -> None: ...


def run_parallel[Result](
    make_runner: Callable[[], Runner[Result]], indices: Sequence[int], workers: int
) -> Generator[Result]:
    """The results of `run_numbered` without their indices."""
    with closing(run_numbered(make_runner, indices, workers)) as results:
        for _index, result in results:
            yield result


def run_numbered[Result](
    make_runner: Callable[[], Runner[Result]], indices: Sequence[int], workers: int
) -> Generator[tuple[int, Result]]:
    """Yield (index, result) in the order in which they finish. `make_runner` must be picklable.

    `make_runner` is called once per process; workers=0 works in this process. Work begins in the order of `indices`.
    An `EmuRobotError` of a worker is raised here with its kind and message. If a process dies, its pieces run again.
    After SIGINT or SIGTERM no piece begins; the pieces under way are yielded, then `Interrupted` is raised.
    Raises `SystemSetupError` if processes die without finishing any piece.
    """
    if not indices:
        return
    with stop_request("the pieces of work under way are finished") as stop:
        pending = set(indices)
        for index, result in _run_all(make_runner, indices, pending, workers, stop):
            pending.discard(index)
            yield index, result
        stop.obey(f"stopped with {len(indices) - len(pending)} of {len(indices)} pieces of work finished")


def _run_all[Result](
    make_runner: Callable[[], Runner[Result]],
    indices: Sequence[int],
    pending: set[int],
    workers: int,
    stop: StopRequest,
) -> Generator[tuple[int, Result]]:
    """Run `indices`, as long as they are pending and nothing asks to stop."""
    if workers == 0:
        with closing(make_runner()) as runner:
            for index in indices:
                if stop.number is None:
                    yield index, runner.run(index)
        return
    while pending and stop.number is None:
        before = len(pending)
        left = [index for index in indices if index in pending]
        try:
            yield from _run_pool(make_runner, left, workers, stop)
        except BrokenProcessPool as error:
            if stop.number is not None:
                return
            if len(pending) == before:
                raise SystemSetupError(
                    "a worker process died, perhaps for lack of memory; try fewer workers"
                ) from error
            print(f"a worker process died; {len(pending)} of {before} pieces are run by new ones", file=sys.stderr)


def _run_pool[Result](
    make_runner: Callable[[], Runner[Result]], indices: Sequence[int], workers: int, stop: StopRequest
) -> Generator[tuple[int, Result]]:
    workers = min(workers, len(indices))
    pool = ProcessPoolExecutor(
        max_workers=workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(make_runner,),
    )
    try:
        coming, running = iter(indices), dict[Future[Any], int]()
        while True:
            if stop.number is None:  # one more than the workers, so that none waits for its next piece
                with children_without_interrupts():
                    running |= {pool.submit(_run, i): i for i in islice(coming, workers + 1 - len(running))}
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), value_of(future.result())
    finally:
        pool.shutdown(cancel_futures=True)


_make_runner: Callable[[], Runner[Any]] | None = None
_runner: Runner[Any] | None = None


def _start(make_runner: Callable[[], Runner[Any]]) -> None:
    """Prepare this process. It ends with its parent, also if the parent is killed or interrupted."""
    global _make_runner
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # torch reads them when first imported
    _make_runner = make_runner


def _run(index: int) -> Outcome:
    return outcome_of(_work, index)


def _work(index: int) -> Any:
    global _runner
    assert _make_runner is not None, "_start prepares the process"
    if _runner is not None:
        return _runner.run(index)
    _runner = _make_runner()
    result = _runner.run(index)
    atexit.register(_runner.close)  # after the first piece, so that it runs before the libraries' own endings
    return result


def outcome_of(work: Callable[[int], Any], index: int) -> Outcome:
    """Do a piece of work in another process, so that its typed error can travel. Other errors are raised."""
    try:
        return work(index), None
    except EmuRobotError as error:
        return None, (type(error), str(error))


def value_of(outcome: Outcome) -> Any:
    """The result of another process. Raises the error that it has in its place."""
    result, failure = outcome
    if failure is None:
        return result
    kind, message = failure
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    raise error
