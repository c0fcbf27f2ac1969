"""How a node's process ends: told to at any time, or by its own mistake."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ENDINGS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
TOY = str(Path(__file__).with_name("toy_node.py"))
CONSOLE_SCRIPT = "from emu_robot_ros.starting import planner; planner()"
LONGEST_S = 120.0
"""A process that says nothing more fails its test then, and does not hold up the others [s]."""
WHERE = "(EMU_ROBOT_DEBUG=1 shows where)"


@contextmanager
def started(*words: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process of this Python; what it says on both streams can be read line by line, for at most `LONGEST_S`."""
    command, both = [sys.executable, "-u", *words], {**os.environ, **environment}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=both)
    end = threading.Timer(LONGEST_S, process.kill)
    end.start()
    try:
        yield process
    finally:
        end.cancel()
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    seen: list[str] = []
    for said in process.stdout:
        seen.append(said.rstrip())
        if seen[-1] == line:
            return
    pytest.fail(f"it said only {seen}")


def rest_of(process: subprocess.Popen[str]) -> list[str]:
    """What it says from now to its end."""
    return process.communicate(timeout=30)[0].splitlines()


@pytest.mark.parametrize("number", ENDINGS)
@pytest.mark.parametrize("executor", ["", "awaits"])
def test_an_active_node_comes_to_rest_first_and_nothing_cuts_that_short(number: signal.Signals, executor: str):
    with started(TOY, "", executor) as process:
        read_until(process, "active")
        process.send_signal(number)
        read_until(process, "braking")
        for again in (number, *ENDINGS):
            process.send_signal(again)
            time.sleep(0.05)
        assert rest_of(process) == ["at rest"] and process.returncode == 0


@pytest.mark.parametrize("executor", ["", "awaits"])
def test_a_callback_that_fails_is_one_line_and_the_node_comes_to_rest(executor: str):
    with started(TOY, "raises", executor) as process:
        read_until(process, "active")
        assert rest_of(process) == [f"error: RuntimeError: a callback fails {WHERE}", "braking", "at rest"]
        assert process.returncode == 1


def test_where_it_failed_is_said_on_request():
    with started(TOY, "raises", EMU_ROBOT_DEBUG="1") as process:
        lines = rest_of(process)
    assert "Traceback (most recent call last):" in lines and lines[-1] == "at rest"


def test_a_transition_that_fails_is_one_line():
    with started(TOY, "wrong") as process:
        assert rest_of(process) == ["configuring", f"error: KeyError: 'joint' {WHERE}"]
        assert process.returncode == 1


@pytest.mark.parametrize("number", ENDINGS)
def test_a_node_that_is_being_configured_ends_at_once(number: signal.Signals):
    with started(TOY, "slow") as process:
        read_until(process, "configuring")
        process.send_signal(number)
        assert rest_of(process) == [] and process.returncode == 0


def test_what_nohup_ignores_stays_ignored():
    ignoring = f"import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv({sys.executable!r}, "
    with started("-c", f"{ignoring} [{sys.executable!r}, {TOY!r}, ''])") as process:
        read_until(process, "active")
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        assert rest_of(process) == ["braking", "at rest"] and process.returncode == 0


@pytest.fixture
def slow_torch(tmp_path: Path) -> str:
    """A PYTHONPATH on which importing torch takes a minute."""
    (tmp_path / "torch.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    return f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"


@pytest.mark.parametrize("number", ENDINGS)
@pytest.mark.parametrize("words", [("-m", "emu_robot_ros.planner_node"), ("-c", CONSOLE_SCRIPT)])
def test_a_node_that_is_still_importing_ends_quietly(slow_torch: str, number: signal.Signals, words: tuple[str, str]):
    with started(*words, PYTHONPATH=slow_torch) as process:
        read_until(process, "importing")
        process.send_signal(number)
        assert rest_of(process) == [] and process.returncode == 0


def test_an_import_that_fails_is_one_line(tmp_path: Path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")\n")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with started("-m", "emu_robot_ros.policy_node", PYTHONPATH=path) as process:
        assert rest_of(process) == [f"error: ModuleNotFoundError: No module named 'torch' {WHERE}"]
        assert process.returncode == 1
