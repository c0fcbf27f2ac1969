"""Benchmarks by name: their settings, their page, what they lack, and how that is installed."""

from dataclasses import replace
from pathlib import Path

import pytest

from emu_robot.cli import main as cli
from emu_robot.config import load_config
from emu_robot.errors import SystemSetupError
from emu_robot.evaluation import benchmarks
from emu_robot.evaluation.benchmarks import BENCHMARKS, install
from emu_robot.evaluation.config import EvalConfig

PAGE = (Path(__file__).parents[2] / "docs/BENCHMARKS.md").read_text()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_is_an_evaluation_and_has_its_place_on_the_page(name: str) -> None:
    one = BENCHMARKS[name]
    config = load_config("eval", [f"policy={one.policy or 'expert'}", *one.settings])
    assert isinstance(config, EvalConfig) and all(word in config.command() for word in one.settings)
    assert f"\n## {name}\n" in PAGE and f"`emu-robot bench run {name}" in PAGE
    assert (one.module is None) == (not one.packages)


def test_the_list_names_what_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = {"a": replace(BENCHMARKS["pusht"], module="no_such_module"), "b": BENCHMARKS["pusht"]}
    monkeypatch.setattr(benchmarks, "BENCHMARKS", lacking)
    assert cli.main(["bench", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[1].strip() == "needs package no_such_module" and lines[2].startswith("b")


def test_what_is_there_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks.subprocess, "run", lambda *_args, **_kw: pytest.fail("nothing is to be installed"))
    assert install("tabletop") == "tabletop: nothing is missing"
    assert install("pusht") == "pusht: nothing is missing"


def test_a_package_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.setenv(name, "1")
    wrong = replace(BENCHMARKS["pusht"], module="no_such_module", packages=("numpy==1.0",))
    monkeypatch.setattr(benchmarks, "BENCHMARKS", {"old": wrong})
    with pytest.raises(SystemSetupError, match=r"old cannot be installed beside the present packages \(.*numpy"):
        install("old")


def test_a_benchmark_runs_with_settings_of_one_s_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["policy=expert", "tasks=push", "n=1", "workers=0", "videos=0", f"out={out}"]
    assert cli.main(["bench", "run", "tabletop", *words]) == 0
    said = capsys.readouterr().out
    assert "emu-robot eval policy=expert env=tabletop split=heldout tasks=push n=1" in said
    assert (out / "report.html").exists()
