"""From a command line to a node. Its imports take seconds, in which it may be told to end: that it hears first.

Standard library only. `running.run_node` takes over once the node can be made.
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
"""What a person or a system says to end. `emu_robot.deploy.processes` has it wait for us until we listen."""


class Ending:
    """Whether this process was told to end, and what it does at that moment: that depends on how far it is."""

    def __init__(self) -> None:
        self.told = False
        self._act: Callable[[], None] = partial(leave, 0)

    def listen(self) -> None:
        """From now on; while nothing has been made that must be taken down, the process ends on the spot."""
        for number in ENDINGS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
                signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)

    def interrupts(self) -> None:
        """From now on `SystemExit` is raised, wherever the main thread is."""
        self._act = sys.exit

    def is_noted(self) -> None:
        """From now on `told` says it, and nothing is cut short."""
        self._act = _go_on

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        act, self._act, self.told = self._act, _go_on, True
        act()


def _go_on() -> None:
    pass


def report(error: BaseException) -> None:
    """One line; with EMU_ROBOT_DEBUG=1 also where it came from."""
    if os.environ.get("EMU_ROBOT_DEBUG") == "1":
        traceback.print_exception(error)
    said, kind = " ".join(str(error).split()), type(error)
    if kind.__module__ != "emu_robot.errors":
        said = f"{kind.__name__}: {said} (EMU_ROBOT_DEBUG=1 shows where)"
    print(f"error: {said}", file=sys.stderr, flush=True)


def leave(status: int) -> NoReturn:
    """End the process at once; threads that compute are not waited for."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, RuntimeError):  # its reader is gone; a signal has come while it was flushed
            stream.flush()
    os._exit(status)


def start(name: str) -> NoReturn:
    """Run the module `name`_node of this package as this process, to its end."""
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
"""This process's."""
planner, policy, recorder, safety, sim_bridge, teleop = (
    partial(start, name) for name in ("planner", "policy", "recorder", "safety", "sim_bridge", "teleop")
)
"""The console scripts of setup.py."""
