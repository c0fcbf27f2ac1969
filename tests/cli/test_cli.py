"""The command line: fast help, one-line errors, exit statuses; the doctor."""

import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from emu_robot import doctor
from emu_robot.cli import main as cli
from emu_robot.cli import train_mini, verb_sequence
from emu_robot.cli.plan import save_strip
from emu_robot.core import Plan, PlanStep
from emu_robot.errors import EmuRobotError, WeightsError
from emu_robot.models.weights import load_weights, save_weights
from emu_robot.shared.interrupts import Interrupted

ROOT = Path(__file__).parents[2]


def raising(error: BaseException) -> Callable[[str], object]:
    """A stand-in for the loader of verbs, whose verb raises."""

    class Verb:
        @staticmethod
        def run(arguments: list[str]) -> None:
            raise error

    return lambda verb: Verb


def test_help_is_fast_and_lists_every_verb() -> None:
    start = time.perf_counter()
    answer = subprocess.run(
        [sys.executable, "-c", "import sys; from emu_robot.cli.main import main; sys.exit(main(['--help']))"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert time.perf_counter() - start < 3  # 0.05 s when nothing else runs
    assert all(f"  {verb} " in answer.stdout for verb in cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    assert capsys.readouterr().out.strip()


def test_help_tells_type_range_choices_and_the_default_of_that_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "demo"]) == 0
    demo = capsys.readouterr().out
    assert "  n=6 " in demo and "  out=outputs/demo " in demo
    assert cli.main(["train", "stage=head", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100 and lines[0] == "emu-robot train stage=head KEY=VALUE ..."
    assert (
        "  loop.dtype=float32   auto | float32 | bfloat16" in lines and "  loop.init_from=null   path or null" in lines
    )
    at = lines.index("  holdout=0.03   number, above 0 and below 1")
    assert lines[at + 1] == "      Share of the episodes kept for validation."
    assert "loop: Optimisation." in lines
    assert any(line.startswith("  experiment=   mini | mini_corrected | side_by_side") for line in lines)


def test_version_and_help_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"emu-robot {version('emu_robot')}\n"
    assert cli.main(["help"]) == 0
    assert "usage: emu-robot" in capsys.readouterr().out
    assert cli.main(["help", "evla"]) == 1
    assert "did you mean 'eval'?" in capsys.readouterr().err


def test_nothing_advises_to_install_by_a_name_that_anyone_may_register() -> None:
    suffixes = (".py", ".md", ".toml", ".yaml", ".j2", ".txt")
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT)
    files = [
        ROOT / name
        for name in listed.stdout.splitlines()
        if name.endswith((*suffixes, "Makefile")) and (ROOT / name).is_file()
    ]
    advice = re.compile(r"pip install (-\S+ )*['\"]?emu[_-]robot")
    assert len(files) > 100
    assert [path for path in files if advice.search(path.read_text())] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evla"], "unknown verb 'evla'; known: doctor, demo"),
        (["eval", "polcy=mini"], "unknown key 'polcy' for eval; valid: "),
        (["eval", "split=both"], "unknown split 'both'; known: seen, heldout"),
        (["eval", "goal=best"], "unknown goal 'best'; known: planner"),
        (["collect", "n=none"], "collect: n: Value 'none'"),
        (["train"], "stage= is missing; one of: tokenizer, planner, dida, head, world_model"),
        (["train", "stage=body"], "unknown stage 'body'; known: tokenizer, planner, dida, head, world_model"),
        (["sim", "fly"], "unknown sim command 'fly'; known: bench"),
        (["sim", "bench", "steps=0"], "steps is 0, must be at least 1"),
        (["plan", "image=a.png"], "instruction= is needed with image="),
        (["plan", "weights=nowhere"], "unknown weights 'nowhere'; known: "),
        (
            ["data"],
            "unknown data command ''; known: check, encode, export, from-mcap, merge, merge-sets, prepare",
        ),
    ],
)
def test_a_mistake_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {said}")


def test_every_package_that_an_extra_brings_is_asked_of_that_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra: {re.split(r"[^\w-]", line)[0] for line in lines} for extra, lines in extras.items()}
    assert set(cli.EXTRAS.values()) <= set(extras)
    assert {name for name, extra in cli.EXTRAS.items() if extra == "emu35"} == named["emu35"]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (EmuRobotError("two\nlines"), 1, "error: two lines"),
        (OSError(28, "No space left on device", "data/x"), 1, "error: No space left on device: data/x"),
        (ModuleNotFoundError("no", name="lerobot.datasets"), 1, "in the checkout: pip install -e '.[train]'"),
        (ModuleNotFoundError("no", name="tiktoken"), 1, "in the checkout: pip install -e '.[emu35]'"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Interrupted(15, "stopped at step 3"), 143, "stopped at step 3"),
    ],
)
def test_errors_while_running(
    error: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "_load", raising(error))
    assert cli.main(["eval"]) == status
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert cli.main(["--debug", "eval"]) == status
    assert "Traceback" in capsys.readouterr().err


def test_doctor_finds_what_this_machine_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    assert "off-screen rendering" in capsys.readouterr().out


def test_doctor_says_each_missing_thing_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_library(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(doctor.ctypes, "CDLL", no_library)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    checks = [doctor.check_python((3, 11, 2)), doctor.check_disk(tmp_path, 1e9), doctor.check_egl()]
    checks.append(doctor.check_compiler())
    assert not doctor.report(checks)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["missing", "missing", "missing", "warning"]
    assert all("apt-get install" in line for line in lines if "GB" not in line)
    assert "libegl1 libegl-mesa0" in lines[2]


def test_doctor_reports_a_driver_that_cannot_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    problem = doctor.check_render().problem
    assert problem is not None
    assert "apt-get install" in problem
    assert "\n" not in problem


def test_plan_strip_has_a_panel_per_subgoal(tmp_path: Path) -> None:
    from PIL import Image

    image = np.zeros((128, 128, 3), np.uint8)
    steps = (PlanStep(subtask="open the drawer", subgoal=image), PlanStep(subtask="close the drawer", subgoal=image))
    save_strip(tmp_path / "deep" / "plan.png", image, Plan(instruction="tidy", steps=steps))
    with Image.open(tmp_path / "deep" / "plan.png") as strip:
        assert strip.width > 3 * 256


def test_train_mini_goes_on_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def train(config: str) -> None:
        if config == "stop":
            raise KeyboardInterrupt
        ran.append(config)

    monkeypatch.setattr(verb_sequence, "FUNCTIONS", {"train": f"{__name__}:step"})
    monkeypatch.setattr(sys.modules[__name__], "step", train, raising=False)
    finished = tmp_path / "finished.json"
    with pytest.raises(KeyboardInterrupt):
        verb_sequence.run_verbs({("train", "first"): "a", ("train", "second"): "stop"}, finished)
    verb_sequence.run_verbs({("train", "first"): "a", ("train", "second"): "b"}, finished)
    verb_sequence.run_verbs({("train", "first"): "a", ("train", "second"): "b"}, finished)
    assert ran == ["a", "b"]


def test_release_refuses_damaged_or_unfinished_weights(tmp_path: Path) -> None:
    trained, released = tmp_path / "trained", tmp_path / "released"
    for stage in ("tokenizer", "planner"):
        save_weights(trained, stage, {"w": torch.ones(3)}, {})
    with pytest.raises(WeightsError, match="has no head"):
        train_mini.release(trained, released)
    matrix = torch.randn(64, 64)
    save_weights(trained, "head", {"w": matrix}, {})
    train_mini.release(trained, released)
    found = load_weights(released, "head").state["w"]
    assert 0 < (found - matrix).abs().max() < 0.02 and torch.equal(load_weights(trained, "head").state["w"], matrix)
    (trained / "head.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"head.safetensors is corrupted"):
        train_mini.release(trained, released)
