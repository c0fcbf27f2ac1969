"""The examples of the documentation run as they are printed, each within 30 lines."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emu_sim.environment import TabletopEnvironment

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "docs/examples").iterdir())


def run(name: str, *words: object) -> str:
    """What an example prints, run from the root of the checkout with this environment's commands."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = sys.executable if name.endswith(".py") else "sh"
    answer = subprocess.run(
        [program, ROOT / "docs/examples" / name, *map(str, words)],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-2000:]
    return answer.stdout


def test_they_are_short_tested_here_and_told_in_the_readme() -> None:
    source, readme = Path(__file__).read_text(), (ROOT / "README.md").read_text()
    assert len(EXAMPLES) >= 5
    for path in EXAMPLES:
        assert len(path.read_text().splitlines()) <= 30, path
        assert f'run("{path.name}"' in source and f"docs/examples/{path.name}" in readme


def test_plan_from_a_photo(tmp_path: Path) -> None:
    with closing(TabletopEnvironment(families=["put_in_drawer"])) as environment:
        environment.reset(10_000_000)
        Image.fromarray(environment.render(size=512)[:371].copy()).save(tmp_path / "photo.jpg")
        instruction = environment.instruction
    said = run("plan_from_a_photo.py", tmp_path / "photo.jpg", instruction, tmp_path / "plan")
    assert said.startswith("1. ") and said.endswith(f"subgoals: {tmp_path / 'plan'}\n")
    with Image.open(tmp_path / "plan/subgoal_1.png") as subgoal:
        assert subgoal.size == (128, 128) and np.asarray(subgoal).std() > 10


def test_run_an_episode() -> None:
    lines = run("run_an_episode.py", "open_drawer").splitlines()
    assert lines[0] == "instruction: open the drawer" and lines[1].endswith("0.0 s  open the drawer")
    assert lines[-1].split()[-1] == "done"


def test_evaluate(tmp_path: Path) -> None:
    lines = run("evaluate.py", "open_drawer", 1, tmp_path).splitlines()
    assert lines[-2].startswith("seed 10000000: done after ") and lines[-2].endswith("steps, 'open the drawer'")
    assert lines[-1] == "success 100%, Wilson 95 % interval 21% to 100%"
    assert "data:video/mp4" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_finetune(tmp_path: Path) -> None:
    said = run("finetune.sh", "datasets/tabletop_sample", tmp_path, 2)
    assert f"weights in {tmp_path / 'weights'}" in said and "instruction: open the drawer" in said
    assert (tmp_path / "report.html").is_file() and (tmp_path / "plan.png").is_file()


@pytest.mark.slow
def test_lerobot_eval(tmp_path: Path) -> None:
    run("lerobot_eval.sh", "open_drawer", 1, tmp_path)
    assert '"pc_success": 100.0' in (tmp_path / "eval/eval_info.json").read_text()
    assert list(tmp_path.rglob("*.mp4"))
