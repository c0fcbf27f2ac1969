"""Evaluation on Ray: the local runner's results, and killed actors neither lose nor repeat an episode."""

import dataclasses
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fakes
import pytest
import ray

from emu_robot.errors import ConfigError, SystemSetupError
from emu_robot.evaluation.config import EvalConfig, RunnerKind
from emu_robot.evaluation.ray_runner import run_on_ray
from emu_robot.evaluation.rollouts import evaluate


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One small cluster for all tests. Its actors import what the tests import."""
    paths = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, runtime_env=paths)
    yield
    ray.shutdown()


class Noting:
    """Squares a number and notes every attempt in a folder. Some attempts end the process."""

    def __init__(self, folder: Path, killed_once: tuple[int, ...] = (), always_killed: bool = False) -> None:
        self._folder, self._killed_once, self._always_killed = folder, killed_once, always_killed

    def run(self, index: int) -> int:
        tries = len(list(self._folder.glob(f"{index}.*")))
        (self._folder / f"{index}.{tries}").touch()
        if self._always_killed or (index in self._killed_once and tries == 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 99:
            raise ConfigError("piece 99 is not possible")
        return index * index

    def close(self) -> None:
        pass


def test_a_killed_actor_loses_and_repeats_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pieces = [3, 1, 4, 15, 9, 2, 6]
    results = list(run_on_ray(partial(Noting, tmp_path, (1, 6)), pieces, workers=2))
    assert sorted(results) == sorted(index * index for index in pieces)
    tries = Counter(int(path.stem) for path in tmp_path.iterdir())
    assert tries == {index: 2 if index in (1, 6) else 1 for index in pieces}
    assert capsys.readouterr().err.count("an actor died; piece") == 2


def test_typed_errors_travel_and_hopeless_work_ends(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="piece 99 is not possible"):
        list(run_on_ray(partial(Noting, tmp_path), [99], workers=1))
    with pytest.raises(SystemSetupError, match="Ray's actors die, perhaps for lack of memory"):
        list(run_on_ray(partial(Noting, tmp_path, (), True), [5], workers=1))
    assert list(run_on_ray(partial(Noting, tmp_path), [], workers=1)) == []


def test_results_are_those_of_the_local_runner(tmp_path: Path) -> None:
    records = {}
    for kind, workers in ((RunnerKind.local, 0), (RunnerKind.ray, 2)):
        settings = {"env": "fake", "tasks": ["one", "both"], "n": 8, "goal": "oracle", "videos": 1}
        config = EvalConfig(**settings, runner=kind, workers=workers, out=tmp_path / kind)  # type: ignore[arg-type]
        result = evaluate(config, fakes.make_policy)
        records[kind] = [dataclasses.replace(record, policy_s=0.0, wall_s=0.0) for record in result.records]
        assert len(list((tmp_path / kind / "episodes").glob("[0-9]*.json"))) == 8
    assert records[RunnerKind.local] == records[RunnerKind.ray]


def test_an_evaluation_goes_on_with_the_other_runner(tmp_path: Path) -> None:
    settings = {"env": "fake", "tasks": ["one"], "goal": "oracle", "videos": 0, "out": tmp_path / "out"}
    evaluate(EvalConfig(**settings, n=2, workers=0), fakes.make_policy)  # type: ignore[arg-type]
    whole = EvalConfig(**settings, n=4, workers=1, runner=RunnerKind.ray, resume=True)  # type: ignore[arg-type]
    first = (tmp_path / "out/episodes/00000.json").stat().st_mtime_ns
    assert len(evaluate(whole, fakes.make_policy).records) == 4
    assert (tmp_path / "out/episodes/00000.json").stat().st_mtime_ns == first, "a finished episode is not repeated"


def test_ray_needs_workers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="runner=ray needs workers=1 or more"):
        evaluate(EvalConfig(env="fake", goal="none", runner=RunnerKind.ray, workers=0, out=tmp_path / "out"))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
