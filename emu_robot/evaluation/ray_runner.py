"""Numbered pieces of work on Ray actors, of this machine or of the cluster that RAY_ADDRESS names.

The counterpart of `shared.parallel.run_numbered`, with the same runners. An actor does one piece at a time. If it dies,
its piece goes to a new actor; those of the others go on. Pieces write their files themselves, so machines of a cluster
need a common file system.
"""

import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from emu_robot.errors import SystemSetupError
from emu_robot.shared.interrupts import StopRequest, stop_request
from emu_robot.shared.parallel import Outcome, Runner, outcome_of, value_of

MOST_DEATHS = 3
"""Deaths of actors in a row, for each of them, without a finished piece, after which the work is given up."""
WAIT_S = 1.0
"""Time between two looks for a stop signal [s]."""


class Worker:
    """What runs in an actor: a runner, made at its first piece, with one thread."""

    def __init__(self, make_runner: Callable[[], Runner[Any]]) -> None:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # torch reads them when first imported
        self._make_runner = make_runner
        self._runner: Runner[Any] | None = None

    def run(self, index: int) -> Outcome:
        """The result of a piece, or the kind and message of a typed error."""
        return outcome_of(self._work, index)

    def pid(self) -> int:
        """Its process."""
        return os.getpid()

    def _work(self, index: int) -> Any:
        if self._runner is None:
            self._runner = self._make_runner()
        return self._runner.run(index)


def run_on_ray[Result](
    make_runner: Callable[[], Runner[Result]], indices: Sequence[int], workers: int
) -> Generator[Result]:
    """Yield the results in the order in which they finish; `make_runner` is called once per actor.

    workers: actors, at least 1; each needs one CPU of the cluster. Errors and signals are treated as by `run_numbered`.
    Raises `SystemSetupError` if Ray does not start, or if actors die without finishing any piece.
    """
    if not indices:
        return
    with stop_request("the pieces of work under way are finished") as stop, _cluster(workers):
        left = deque(indices)
        yield from _run_all(make_runner, left, min(workers, len(indices)), stop)
        stop.obey(f"stopped with {len(left)} of {len(indices)} pieces of work not begun")


def _run_all[Result](
    make_runner: Callable[[], Runner[Result]], left: deque[int], workers: int, stop: StopRequest
) -> Generator[Result]:
    """Run the pieces in `left`, and take from it each that begins."""
    import ray
    from ray.exceptions import RayActorError

    new_actor: Any = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Worker).remote
    idle = [new_actor(make_runner) for _ in range(workers)]
    running: dict[Any, tuple[Any, int]] = {}
    deaths = 0
    while True:
        while idle and left and stop.number is None:
            actor, index = idle.pop(), left.popleft()
            running[actor.run.remote(index)] = (actor, index)
        if not running:
            return
        for done in ray.wait(list(running), timeout=WAIT_S)[0]:
            actor, index = running.pop(done)
            try:
                outcome = ray.get(done)
            except RayActorError as error:
                left.appendleft(index)
                deaths += 1
                if deaths >= MOST_DEATHS * workers:
                    said = " ".join(str(error).split())[-300:]
                    raise SystemSetupError(f"Ray's actors die, perhaps for lack of memory ({said})") from error
                print(f"an actor died; piece {index} is run by a new one", file=sys.stderr)
                idle.append(new_actor(make_runner))
                continue
            deaths = 0
            idle.append(actor)
            yield value_of(outcome)


@contextmanager
def _cluster(workers: int) -> Iterator[None]:
    """Join the cluster of RAY_ADDRESS, or start Ray on this machine with `workers` CPUs, until the block ends."""
    import ray

    own: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
    begun = not ray.is_initialized()
    if begun:
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **own)
        except Exception as error:  # Ray raises bare exceptions, too
            raise SystemSetupError(f"Ray does not start ({' '.join(str(error).split())[:300]})") from error
    try:
        yield
    finally:
        if begun:
            ray.shutdown()
