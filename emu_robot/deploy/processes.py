"""Processes that begin and end together. Knows no robots and no middleware.

Each has its own process group, so that a terminal's Ctrl-C reaches only their parent. The parent then ends them in
order: SIGINT, patience, SIGKILL for whole groups. If the parent is killed, they all end at once. They stay in one
session: if the kernel schedules by session, niceness counts only within a session.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from emu_robot.errors import InvalidValueError, SystemSetupError

POLL_S = 0.02
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals by which a person or a system ends a process."""
PREPARE = """
import ctypes, os, signal, sys
parent, nice, awaited, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG
if os.getppid() != int(parent):
    sys.exit("the parent process has ended")
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
if awaited == "no":
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
try:
    os.nice(int(nice))
except PermissionError:
    print(f"niceness {nice} is not permitted (see `emu-robot doctor ros`), it stays {os.nice(0)}", flush=True)
os.execvp(command[0], command)
"""
"""Python code of the new process before it becomes the command: between fork and exec no Python code is safe."""


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """How to run a process."""

    name: str
    """Name that marks its lines."""
    command: Sequence[str]
    """Program and arguments."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables in addition to this process's."""
    nice: int = 0
    """Added to this process's niceness."""
    last_to_stop: bool = False
    """Whether it stops only after the others have ended."""
    listens: bool = False
    """Whether the command unblocks `ENDINGS` itself once it is ready; signals wait until then."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A process that ended by itself."""

    name: str
    """Name of the process."""
    status: int
    """Exit status as in a shell: 128 + the signal if a signal ended it."""

    def __str__(self) -> str:
        signals = {128 + number: number.name for number in signal.Signals}
        return f"{self.name} ended ({signals.get(self.status, f'exit status {self.status}')})"


class Processes:
    """Runs processes during a `with` block. They also end with the thread that enters it."""

    def __init__(
        self, wanted: Sequence[ProcessSettings], *, say: Callable[[str], None] = print, patience_s: float = 10.0
    ) -> None:
        """say: gets every printed line, as "[name] line", from several threads. patience_s: from SIGINT to SIGKILL [s].

        Raises `InvalidValueError` for equal names. Entering raises `SystemSetupError` if a command does not exist.
        """
        names = [settings.name for settings in wanted]
        if len(set(names)) != len(names):
            raise InvalidValueError(f"processes with the same name: {', '.join(names)}")
        self._wanted, self._say, self._patience_s = wanted, say, patience_s
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for settings in self._wanted:
            if shutil.which(settings.command[0]) is None:
                raise SystemSetupError(f"{settings.name}: no program {settings.command[0]}")
        try:
            for settings in self._wanted:
                self._start(settings)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def __getitem__(self, name: str) -> subprocess.Popen[str]:
        return self._running[name]

    def wait(self, seconds: float = float("inf")) -> Ended | None:
        """Wait for the first process that ends by itself; None if all still run after `seconds`."""
        until = time.monotonic() + seconds
        while True:
            for name, process in self._running.items():
                status = _status(process)
                if status is not None:
                    return Ended(name=name, status=status)
            if time.monotonic() >= until:
                return None
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End all that still run, in order. Further signals to end do not cut it short."""
        with _interrupts_ignored():
            for last in (False, True):
                self._end([settings.name for settings in self._wanted if settings.last_to_stop is last])
            for reader in self._readers:
                reader.join(1.0)

    def _start(self, settings: ProcessSettings) -> None:
        awaited, nice = "yes" if settings.listens else "no", str(settings.nice)
        with _endings_blocked():  # also in the new process, from its start
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", PREPARE, str(os.getpid()), nice, awaited, *settings.command],
                env={**os.environ, **settings.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                process_group=0,
            )
        self._running[settings.name] = process
        reader = threading.Thread(target=self._read, args=(settings.name, process), daemon=True)
        self._readers.append(reader)
        reader.start()

    def _read(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with suppress(OSError):  # our output may be closed; go on reading, or the process would block
                self._say(f"[{name}] {line.rstrip()}")

    def _end(self, names: list[str]) -> None:
        processes = {name: self._running[name] for name in names if name in self._running}
        for process in processes.values():
            if _status(process) is None:
                os.kill(process.pid, signal.SIGINT)
                os.kill(process.pid, signal.SIGCONT)  # a stopped process cannot react
        until = time.monotonic() + self._patience_s
        for name, process in processes.items():
            while _status(process) is None and time.monotonic() < until:
                time.sleep(POLL_S)
            if _status(process) is None:
                self._say(f"[{name}] did not end within {self._patience_s:g} s: killed")
            if process.returncode is None:  # not waited for, so its group id is still its own
                os.killpg(process.pid, signal.SIGKILL)  # with its own children
                process.wait()


def _status(process: subprocess.Popen[str]) -> int | None:
    """Exit status as in a shell; None while it runs. An ended process must still be waited for."""
    if process.returncode is not None:
        return process.returncode if process.returncode >= 0 else 128 - process.returncode
    found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else 128 + found.si_status


@contextmanager
def _endings_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
