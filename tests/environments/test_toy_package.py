"""A package with an environment of its own is installed as a wheel and evaluated by the real command."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import av
import pytest
from tiny_weights import write_weights

from emu_robot.robots.spec import ActionKind, RobotLayout

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests/toy_environment"
LAYOUT = RobotLayout(
    state_names=("x", "y"), action_names=("dx", "dy"), n_grippers=0, relative_dims=0, action_kind=ActionKind.DELTA
)


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=outside, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with untrained weights `tiny` for the toy, and an environment `env` that holds wheels of ours and of the
    toy; dependencies are this one's."""
    folder = tmp_path_factory.mktemp("installed")
    for source in (ROOT, TOY):
        built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "wheels", cwd=source)
        assert built.returncode == 0, built.stderr
    venv.create(folder / "env", with_pip=False, symlinks=True)
    python, wheels = folder / "env/bin/python", sorted((folder / "wheels").glob("*.whl"))
    install = (Path(sys.executable).with_name("uv"), "pip", "install", "--python", python, "--offline", "--no-index")
    done = run(*install, "--no-deps", *wheels, cwd=folder)
    assert done.returncode == 0, done.stderr
    site = next((folder / "env/lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    write_weights(folder / "tiny", cameras=("overhead",), layout=LAYOUT, control_hz=10)
    return folder


def emu_robot(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(place / "env/bin/emu-robot", *words, cwd=place)


def test_the_expert_is_evaluated_with_report_and_clips(place):
    done = emu_robot(place, "eval", "env=toy", "policy=expert", "n=8", "videos=2", "out=expert")
    assert done.returncode == 0, done.stderr
    assert "success 100.0%" in done.stdout and "mean over groups" in done.stdout
    info = json.loads((place / "expert/eval_info.json").read_text())
    assert [task["task"] for task in info["per_task"]] == ["left", "right", "top left", "top right"]
    assert {name: group["n_success"] for name, group in info["per_group"].items()} == {"sides": 4, "corners": 4}
    assert info["environment"]["versions"] == {"toy": "1"}
    with av.open(str(place / "expert/episodes/00000.mp4")) as clip:
        assert clip.streams.video[0].frames == 1 + info["per_episode"][0]["n_steps"] // 2 + 5
    page = (place / "expert/report.html").read_text()
    assert "the point is within 5 cm of the mark" in page and "mean over groups" in page
    assert page.count("data:video/mp4") == 2


def test_a_learned_policy_is_evaluated(place):
    done = emu_robot(place, "eval", "env=toy", "policy=tiny", "goal=none", "n=2", "workers=0", "out=learned")
    assert done.returncode == 0, done.stderr
    info = json.loads((place / "learned/eval_info.json").read_text())
    assert [episode["n_steps"] > 0 for episode in info["per_episode"]] == [True, True]
    assert set(info["failures"]) <= {"timeout", "stopped early"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["policy=mini"],
            "weights mini do not fit env=toy: control rate is 20 Hz in the weights, 10 Hz in the",
        ),
        (["policy=expert", "tasks=circle"], "unknown task 'circle'; known: left, right, top left, top right, sides"),
        (["policy=expert", "split=heldout"], "unknown split 'heldout'; known: seen"),
        (["policy=tiny", "goal=oracle"], "goal=oracle needs oracle steps, which the environment does not offer"),
    ],
)
def test_what_does_not_fit_is_told_before_a_folder_is_made(place, words, said):
    done = emu_robot(place, "eval", "env=toy", "n=2", "out=refused", *words)
    assert done.returncode == 1 and said in done.stderr
    assert not (place / "refused").exists()


def test_the_tabletop_is_found_in_the_wheel(place):
    done = emu_robot(place, "eval", "env=moon", "out=refused")
    assert "unknown environment 'moon'; known: lerobot, tabletop, tabletop2, tabletop2_fold1, toy" in done.stderr
