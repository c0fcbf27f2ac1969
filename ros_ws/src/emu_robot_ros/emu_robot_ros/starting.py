"""Starts a node from the command line. Its imports take seconds; signals to end are handled before them.

Standard library only. `running.run_node` takes over when the node can be made.
"""

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import NoReturn

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals by which a person or a system ends a process. `emu_robot.deploy.processes` blocks them until we listen."""


class Ending:
    """Whether this process was told to end, and its reaction, which depends on the stage of the start."""

    def __init__(self) -> None:
        self.told = False
        self._act: Callable[[], None] = partial(leave, 0)

    def listen(self) -> None:
        """Listen from now on. The process ends at once, while there is nothing to take down."""
        for number in ENDINGS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
                signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)

    def interrupts(self) -> None:
        """From now on a signal raises `SystemExit` in the main thread."""
        self._act = sys.exit

    def is_noted(self) -> None:
        """From now on a signal only sets `told`."""
        self._act = _go_on

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        act, self._act, self.told = self._act, _go_on, True
        act()


def _go_on() -> None:
    pass


def report(error: BaseException) -> None:
    """Print an error as one line; with EMU_ROBOT_DEBUG=1, its traceback, too."""
    if os.environ.get("EMU_ROBOT_DEBUG") == "1":
        traceback.print_exception(error)
    said, kind = " ".join(str(error).split()), type(error)
    if kind.__module__ != "emu_robot.errors":
        said = f"{kind.__name__}: {said} (EMU_ROBOT_DEBUG=1 shows where)"
    print(f"error: {said}", file=sys.stderr, flush=True)


def leave(status: int) -> NoReturn:
    """End the process at once, without waiting for threads."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, RuntimeError):  # its reader is gone, or a signal came during a flush
            stream.flush()
    os._exit(status)


def start(name: str) -> NoReturn:
    """Run the module `name`_node of this package, and end the process after it."""
    ending.listen()
    status: object = 0
    try:
        importlib.import_module(f"emu_robot_ros.{name}_node").main()
    except SystemExit as exit:
        status = exit.code or 0
    except Exception as error:
        report(error)
        status = 1
    leave(status if isinstance(status, int) else 1)


ending = Ending()
"""The ending of this process."""
planner, policy, recorder, safety, sim_bridge, teleop = (
    partial(start, name) for name in ("planner", "policy", "recorder", "safety", "sim_bridge", "teleop")
)
"""The console scripts of setup.py."""
