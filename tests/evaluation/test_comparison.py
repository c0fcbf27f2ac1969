"""`emu-robot report`: what is comparable, which differences are told apart, and a page that needs nothing else."""

import json
import re
from pathlib import Path
from typing import Any

import fakes
import pytest

from emu_robot.cli import report as report_verb
from emu_robot.errors import ConfigError, DataError
from emu_robot.evaluation.compared_runs import Run, different_settings, read_run, read_runs
from emu_robot.evaluation.comparison import layout_rows, overall, pair
from emu_robot.evaluation.comparison_page import ReportConfig, compare_runs
from emu_robot.evaluation.config import EvalConfig
from emu_robot.evaluation.rollouts import evaluate
from emu_robot.evaluation.statistics import Proportion, barnard, difference_interval, holm
from emu_robot.policy.config import GoalMode


def play(out: Path, reliability: float, **changes) -> Path:
    """An evaluation by a policy that works so often."""
    settings: dict[str, Any] = {
        "env": "fake",
        "tasks": ["one", "both"],
        "n": 16,
        "workers": 0,
        "goal": GoalMode.ORACLE,
        "videos": 1,
    }
    evaluate(
        EvalConfig(**{**settings, "out": out, **changes}),
        lambda config, source: fakes.FakePolicy(source, reliability=reliability),
    )
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three evaluations: one that never works, one that always does, one that sometimes does."""
    root = tmp_path_factory.mktemp("runs")
    for name, reliability in (("never", 0.0), ("always", 1.0), ("often", 0.6)):
        play(root / name, reliability)
    return root


def runs_of(folder: Path, *names: str) -> list[Run]:
    return [read_run(folder / name, name) for name in names]


def test_a_difference_is_only_told_where_the_exact_test_passes(folder, tmp_path, capsys):
    (found,) = compare_runs(
        ReportConfig(runs=[str(folder / "never"), str(folder / "always")], out=tmp_path / "page.html")
    )
    assert found.p == pytest.approx(barnard(Proportion(0, 16), Proportion(16, 16))) and found.is_separated
    assert found.points == 100 and found.pairing is not None
    assert (found.pairing.n, found.pairing.only_first, found.pairing.only_other) == (16, 0, 16)
    assert "always against never: +100.0 points" in capsys.readouterr().out
    often, again = (read_run(folder / "often", name) for name in ("often", "again"))
    (alike,) = overall([often, again])
    assert alike.points == 0 and str(alike).startswith("again against often: +0.0 points") and not alike.is_separated
    assert "p=1, not separated; on 16 shared layouts p=1" in str(alike)


def test_several_comparisons_are_corrected_together(folder):
    runs = runs_of(folder, "never", "always", "often")
    raw = [barnard(c.a, c.b) for c in overall(runs)]
    assert [c.p for c in overall(runs)] == pytest.approx(holm(raw))
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_a_difference_has_newcombes_interval():
    # Newcombe 1998, method 10, example (a): 56/70 and 48/80.
    assert difference_interval(Proportion(56, 70), Proportion(48, 80)) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_the_page_needs_nothing_from_elsewhere(folder, tmp_path):
    page = tmp_path / "page.html"
    compare_runs(ReportConfig(runs=[str(folder / name) for name in ("often", "always")], out=page, clips=2))
    text = page.read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert sources and all(source.startswith(("data:", "#")) for source in sources)
    assert "http" not in re.sub(r'base64,[^"]+', "", text)
    assert text.count("data:video/mp4") == 2 and "data:image/jpeg" in text
    n = sum(row.differs for row in layout_rows(runs_of(folder, "often", "always")))
    assert 0 < n < 16 and f"16 layouts; the outcomes differ on {n}." in text
    assert "gave up" in text and "the gripper was open at the end" in text
    assert "All settings, weights and versions are the same." in text and "emu-robot eval policy=mini" in text


def test_other_conditions_are_refused_by_name_unless_asked_for(folder, tmp_path):
    other = play(tmp_path / "less", 0.6, tasks=["one"], n=4)
    pair_of = [str(folder / "often"), str(other)]
    with pytest.raises(ConfigError, match="tasks: often both, one, less one.*anyway=true"):
        report_verb.run([f"runs={','.join(pair_of)}", f"out={tmp_path / 'page.html'}"])
    assert not (tmp_path / "page.html").exists()
    report_verb.run([f"runs={','.join(pair_of)}", f"out={tmp_path / 'page.html'}", "anyway=true"])
    text = (tmp_path / "page.html").read_text()
    assert "made under different conditions" in text and "tasks: often both, one, less one" in text


def test_another_step_cap_is_refused(folder, tmp_path):
    capped = play(tmp_path / "capped", 0.6)
    for path in (capped / "episodes").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"max_steps": 90}))
    with pytest.raises(ConfigError, match="step cap of one: often 60, capped 90"):
        compare_runs(ReportConfig(runs=[str(folder / "often"), str(capped)], out=tmp_path / "page.html"))


def test_only_layouts_that_begin_alike_are_paired(folder, tmp_path):
    shifted, base = play(tmp_path / "shifted", 0.6, seed=1), runs_of(folder, "often", "never")[0]
    other = read_run(shifted, "shifted")
    assert pair(base, other) is None
    assert set(different_settings([base, other])) == {"seed"}
    some = play(tmp_path / "some", 0.6, n=6)
    found = pair(base, read_run(some, "some"))
    assert found is not None and found.n == 6
    info = json.loads((some / "eval_info.json").read_text())
    info["environment"]["versions"] = {"fake": "2"}
    (some / "eval_info.json").write_text(json.dumps(info))
    assert pair(base, read_run(some, "some")) is None


def test_wrong_folders_are_named(folder, tmp_path):
    def refused(error: type[Exception], match: str, *runs: Path, names: tuple[str, ...] = ()) -> None:
        with pytest.raises(error, match=match):
            read_runs([str(run) for run in runs], names)

    refused(ConfigError, "needs two or more", folder / "often")
    refused(ConfigError, "twice", folder / "often", folder / "often")
    refused(ConfigError, "names= has 1", folder / "often", folder / "never", names=("a",))
    refused(DataError, "no evaluation", folder / "often", tmp_path)
    (tmp_path / "settings.json").write_text("{}")
    refused(DataError, "resume=true", folder / "often", tmp_path)
    (tmp_path / "eval_info.json").write_text('{"config": {"n": 3}}')
    refused(DataError, "not of emu-robot eval", folder / "often", tmp_path)
    torn = play(tmp_path / "torn", 1.0, n=2)
    next((torn / "episodes").glob("*.json")).unlink()
    refused(DataError, "1 episodes, eval_info.json says 2", folder / "often", torn)
    with pytest.raises(ConfigError, match=".html"):
        ReportConfig(out=tmp_path / "page.txt")
