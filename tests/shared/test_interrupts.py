"""Ctrl-C and kill end work without loss: real signals to real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emu_robot.shared.interrupts import Interrupted, interruptible, stop_request

PIECES = """
import sys, time
from functools import partial
from pathlib import Path
from emu_robot.cli import main as cli
from emu_robot.shared.parallel import run_parallel

class Piece:
    def __init__(self, folder): self.folder = folder
    def run(self, index):
        (self.folder / f"begun{index}").touch()
        time.sleep(1.0)
        (self.folder / f"done{index}").touch()
        return index
    def close(self): pass

class Verb:
    @staticmethod
    def run(words):
        for index in run_parallel(partial(Piece, Path(words[0])), range(50), int(words[1])):
            print("kept", index, flush=True)

if __name__ == "__main__":
    cli._load = lambda verb: Verb
    sys.exit(cli.main(["pieces", *sys.argv[1:]]))
else:
    Path(sys.argv[1], "imported").touch()
    time.sleep(0.5)  # a signal comes while a worker is still importing
"""


def begin(folder: Path, workers: int) -> subprocess.Popen[str]:
    script = folder / "pieces.py"
    script.write_text(PIECES)
    command = [sys.executable, str(script), str(folder), str(workers)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, start_new_session=True, **pipes)


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("workers", "number", "moment"),
    [(2, signal.SIGINT, "imported"), (2, signal.SIGINT, "begun0"), (0, signal.SIGTERM, "begun0")],
)
def test_what_is_under_way_is_finished_and_kept(workers, number, moment, tmp_path) -> None:
    process = begin(tmp_path, workers)
    wait_for(tmp_path / moment)
    os.killpg(process.pid, number)  # as a terminal does: to the command and its workers
    said, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number, errors
    done, begun = (len(list(tmp_path.glob(f"{name}*"))) for name in ("done", "begun"))
    assert said.count("kept") == done == begun and 0 < done <= 1 + workers
    first, last = errors.splitlines()
    assert "under way are finished first; a second signal stops at once" in first and first.startswith(number.name)
    assert last == f"stopped with {done} of 50 pieces of work finished"


def test_workers_that_the_signal_ends_with_their_parent_are_not_started_again(tmp_path) -> None:
    process = begin(tmp_path, 2)
    wait_for(tmp_path / "begun1")
    os.killpg(process.pid, signal.SIGTERM)
    _said, errors = process.communicate(timeout=30)
    assert process.returncode == 143 and "Traceback" not in errors and "run by new ones" not in errors
    assert len(list(tmp_path.glob("begun*"))) <= 3


def test_a_second_signal_stops_at_once(tmp_path) -> None:
    process = begin(tmp_path, 0)
    wait_for(tmp_path / "begun0")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None and process.stderr.readline().startswith("SIGINT")
    process.send_signal(signal.SIGINT)
    _said, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and errors == "interrupted\n" and not (tmp_path / "done0").exists()


def test_handlers_come_back_and_ignored_signals_stay_ignored() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with stop_request("a step is finished") as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM
    with pytest.raises(Interrupted, match="at step 3") as raised:
        stop.obey("at step 3")
    assert raised.value.number == signal.SIGTERM
    with pytest.raises(Interrupted), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    assert {number: signal.getsignal(number) for number in before} == before
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible(), stop_request("a step is finished") as stop:
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.number is None and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
