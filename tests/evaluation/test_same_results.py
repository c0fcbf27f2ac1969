"""The released policy with its default decoder: records depend on neither workers, nor order, nor a kill."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emu_robot.evaluation.config import EvalConfig
from emu_robot.evaluation.records import EpisodeRecord
from emu_robot.evaluation.rollouts import evaluate

N = 2


def config(out: Path, workers: int, **changes: object) -> EvalConfig:
    tasks = ["open_drawer", "close_drawer"]
    return EvalConfig(tasks=tasks, n=N, workers=workers, videos=0, out=out, **changes)  # pyright: ignore[reportArgumentType]


def timeless(records: tuple[EpisodeRecord, ...]) -> list[EpisodeRecord]:
    return [dataclasses.replace(record, policy_s=0.0, wall_s=0.0) for record in records]


def pictures(out: Path) -> dict[str, bytes]:
    """What the policy imagined and saw, by file."""
    return {path.name: path.read_bytes() for path in (out / "episodes").glob("*.jpg")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[EpisodeRecord], dict[str, bytes]]:
    out = tmp_path_factory.mktemp("whole")
    return timeless(evaluate(config(out, workers=0)).records), pictures(out)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_matter(whole, tmp_path: Path, workers: int):
    assert timeless(evaluate(config(tmp_path, workers)).records) == whole[0]
    assert pictures(tmp_path) == whole[1]


def test_a_killed_evaluation_goes_on_to_the_same_records(whole, tmp_path: Path):
    words = [f"n={N}", "tasks=open_drawer,close_drawer", "videos=0", "workers=0", f"out={tmp_path}"]
    code = "import sys; from emu_robot.cli.main import main; sys.exit(main(['eval', *sys.argv[1:]]))"
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while not (tmp_path / "episodes/00000.json").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / f"episodes/{N - 1:05d}.json").exists(), "it was killed too late to mean anything"
    assert timeless(evaluate(config(tmp_path, workers=0, resume=True)).records) == whole[0]
    assert pictures(tmp_path) == whole[1]
