"""Real nodes in processes of their own, on a domain of their own; the test's node talks to them.

These tests run in the environment that `make ros` builds; elsewhere there is no rclpy, and they are not collected.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from emu_robot.deploy.graph import read_graph

HAS_ROS = importlib.util.find_spec("rclpy") is not None
collect_ignore_glob = [] if HAS_ROS else ["test_*.py"]
WAIT_S = 30.0
"""Longest that anything is waited for; machines that test are slow and shared."""
LATE_S = 1.0
"""Bound on holding that any loaded machine keeps; benchmarks/ros2.py measures what it is."""


@contextmanager
def running(module: str, *arguments: str, log: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A node as its own process and process group; interrupted in the end, killed if it does not listen.

    log: where its output goes; without one it is a pipe, for nodes that say little.
    """
    command = [sys.executable, "-m", module, "--ros-args", *arguments]
    with nullcontext(subprocess.PIPE) if log is None else log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(condition: Callable[[], object], what: str, seconds: float = WAIT_S) -> float:
    """How long it took [s]; fails, saying what was waited for."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            pytest.fail(f"waited {seconds} s for {what}")
        time.sleep(0.002)
    return time.monotonic() - start


@pytest.fixture(scope="session", autouse=True)
def domain() -> Iterator[None]:
    """A ROS domain that no other test on this machine uses, for the processes, too."""
    from domain_coordinator import domain_id  # comes with ROS

    with domain_id() as number:
        os.environ["ROS_DOMAIN_ID"] = str(number)
        os.environ |= read_graph("sim").environment  # stays on this machine
        yield


@pytest.fixture
def estop_file(tmp_path: Path) -> Path:
    return tmp_path / "estop"
