"""A policy in a process of its own, so that its computing never delays the process that controls the arm. Numpy only.

Calls wait for the answer: make them in a thread (`teleop/thinking.py`).
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from emu_robot.core import ActionChunk, Coachable, Observation, Policy
from emu_robot.errors import EmuRobotError, SystemSetupError
from emu_robot.shared.interrupts import children_without_interrupts
from emu_robot.shared.typed import first_line


class DrivingPolicy(Policy, Coachable, Protocol):
    """A policy that can drive an arm beside a person."""

    @property
    def control_hz(self) -> int:
        """Actions per second [Hz]."""
        ...

    @property
    def n_action_steps(self) -> int:
        """Actions of a chunk after which the next one should come."""
        ...

    @property
    def image_size(self) -> int:
        """Height and width of the pictures that it sees [px]."""
        ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that it sees."""
        ...

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the dimensions of an action."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What a `DrivingPolicy` says about itself."""

    control_hz: int
    n_action_steps: int
    image_size: int
    cameras: tuple[str, ...]
    action_names: tuple[str, ...]


class PolicyProcess:
    """A `DrivingPolicy` that another process computes."""

    def __init__(self, make: Callable[[], DrivingPolicy]) -> None:
        """make: makes the policy, in the other process; an importable function. Waits until it is loaded.

        Raises the `EmuRobotError` of `make`, or `SystemSetupError` if the process ends.
        """
        ours, theirs = multiprocessing.Pipe()
        self._link = ours
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=_serve, args=(theirs, make), name="policy", daemon=True)
        """The other process."""
        with children_without_interrupts():
            self.process.start()
        theirs.close()
        try:
            facts: _Facts = self._answer()
        except BaseException:
            self.close()
            raise
        self.control_hz, self.n_action_steps = facts.control_hz, facts.n_action_steps
        self.image_size, self.cameras, self.action_names = facts.image_size, facts.cameras, facts.action_names

    def reset(self, instruction: str) -> None:
        """Start an episode with an instruction."""
        self._call("reset", instruction)

    def coach(self, subtask: str) -> None:
        """See `core.Coachable`."""
        self._call("coach", subtask)

    def act(self, observation: Observation) -> ActionChunk:
        """The next chunk for an observation."""
        return self._call("act", observation)

    def close(self) -> None:
        """End the process, also if it computes. A call that waits for it fails."""
        self.process.kill()
        self.process.join()

    def _call(self, method: str, argument: Any) -> Any:
        try:
            self._link.send((method, argument))
        except OSError as error:
            raise SystemSetupError("the policy's process has ended") from error
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer, problem = self._link.recv()
        except (EOFError, OSError) as error:
            raise SystemSetupError("the policy's process has ended") from error
        if problem is not None:
            raise EmuRobotError(problem)
        return answer


def _serve(link: Connection, make: Callable[[], DrivingPolicy]) -> None:
    """Answer calls until the other process ends or closes the link."""
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # torch reads them when first imported
    try:
        policy = make()
        names = _Facts.__dataclass_fields__
        link.send((_Facts(**{name: getattr(policy, name) for name in names}), None))
        while True:
            method, argument = link.recv()
            link.send(_tried(policy, method, argument))
    except EmuRobotError as error:
        link.send((None, str(error)))
    except (EOFError, OSError):
        sys.exit()


def _tried(policy: DrivingPolicy, method: str, argument: Any) -> tuple[Any, str | None]:
    """The answer, or what went wrong, in words. An error that is not ours is printed, too."""
    try:
        return getattr(policy, method)(argument), None
    except EmuRobotError as error:
        return None, str(error)
    except Exception as error:
        traceback.print_exc()
        return None, f"{type(error).__name__}: {first_line(error)}"
