"""Processes that begin and end together, with commands that do next to nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from emu_robot.deploy.processes import Ended, Processes, ProcessSettings
from emu_robot.errors import InvalidValueError, SystemSetupError

STUBBORN = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
TIDY = """
import signal, sys, time
def end(*_):
    time.sleep(float(sys.argv[1]))
    print("ended at", time.monotonic(), flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, end)
print("up", flush=True)
time.sleep(60)
"""


def python(name: str, code: str, *words: str, last_to_stop: bool = False, nice: int = 0) -> ProcessSettings:
    command = [sys.executable, "-c", code, *words]
    return ProcessSettings(name=name, command=command, last_to_stop=last_to_stop, nice=nice)


def until(condition: Callable[[], object]) -> None:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < 20
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether it is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_lines_carry_names_and_the_environment_arrives():
    said: list[str] = []
    settings = ProcessSettings(
        name="one", command=[sys.executable, "-c", "import os; print(os.environ['WORD'])"], environment={"WORD": "yes"}
    )
    with Processes([settings], say=said.append) as processes:
        assert processes.wait(20) == Ended(name="one", status=0)
    assert said == ["[one] yes"]


def test_the_last_one_ends_after_the_others():
    said: list[str] = []
    wanted = [python("gate", TIDY, "0", last_to_stop=True), python("a", TIDY, "0.3"), python("b", TIDY, "0")]
    with Processes(wanted, say=said.append) as processes:
        until(lambda: len(said) == 3)
        assert processes.wait(0) is None
    at = {line.split()[0]: float(line.split()[-1]) for line in said[3:]}
    assert at["[b]"] < at["[a]"] < at["[gate]"]
    assert all(processes[name].returncode == 0 for name in ("gate", "a", "b"))


def test_one_that_dies_is_named():
    with Processes([python("a", TIDY, "0"), python("b", "raise SystemExit(3)")], say=lambda line: None) as processes:
        ended = processes.wait(20)
        assert str(ended) == "b ended (exit status 3)"
        processes["a"].kill()
        until(lambda: processes["a"].poll() is not None)
        assert str(processes.wait(0)) == "a ended (SIGKILL)"


def test_one_that_does_not_listen_is_killed_with_what_it_started():
    said: list[str] = []
    child = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]); print(p.pid, flush=True);"
    )
    with Processes([python("deaf", child + STUBBORN)], say=said.append, patience_s=0.3):
        until(lambda: len(said) == 3)
        grandchild = int(next(line for line in said if "up" not in line).split()[1])
        assert runs(grandchild)
    assert said[-1] == "[deaf] did not end within 0.3 s: killed"
    until(lambda: not runs(grandchild))


@pytest.mark.parametrize("listens", [True, False])
def test_what_is_said_before_one_listens_is_heard_then(listens: bool):
    """Without `listens` it ends at once, quietly: not by an interrupt in the midst of its imports."""
    said: list[str] = []
    code = """
import signal, sys, time
time.sleep(1)
signal.signal(signal.SIGINT, lambda *_: sys.exit(print("told", flush=True)))
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
time.sleep(60)
"""
    settings = replace(python("a", code), listens=listens)
    with Processes([settings], say=said.append) as processes:
        pass
    assert said == (["[a] told"] if listens else [])
    assert processes["a"].returncode == (0 if listens else -signal.SIGINT)


def test_one_that_is_stopped_still_hears():
    said: list[str] = []
    with Processes([python("a", TIDY, "0")], say=said.append) as processes:
        until(lambda: said)
        processes["a"].send_signal(signal.SIGSTOP)
    assert processes["a"].returncode == 0


def test_they_end_with_whoever_started_them(tmp_path: Path):
    parent = f"""
from emu_robot.deploy.processes import Processes, ProcessSettings
import sys, time
with Processes([ProcessSettings(name="a", command=[sys.executable, "-c", {TIDY!r}, "0"])]) as processes:
    processes.wait(0.5)
    print(processes["a"].pid, flush=True)
    processes.wait()
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(next(line for line in process.stdout if "up" not in line))
        assert runs(child)
        process.kill()
    until(lambda: not runs(child))


def test_niceness_is_added_within_the_same_session():
    said: list[str] = []
    code = "import os; print(os.nice(0), os.getsid(0), os.getpgrp() == os.getpid())"
    with Processes([python("a", code, nice=3)], say=said.append) as processes:
        assert processes.wait(20) == Ended(name="a", status=0)
    assert said == [f"[a] {os.nice(0) + 3} {os.getsid(0)} True"]


def test_what_cannot_be_started_is_said_before_anything_is():
    wanted = [python("a", TIDY, "0"), ProcessSettings(name="b", command=["no-such-program"])]
    with pytest.raises(SystemSetupError, match="b: no program no-such-program"), Processes(wanted):
        pass
    with pytest.raises(InvalidValueError, match="the same name: a, a"):
        Processes([wanted[0], wanted[0]])
