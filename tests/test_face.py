"""`import emu_robot`: at once, without any of its parts; its names load their parts; types reach an outside script."""

import ast
import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import emu_robot

ROOT = Path(__file__).parents[1]
LOADED = """
import sys, time
start = time.perf_counter()
import emu_robot
seconds = time.perf_counter() - start
print(seconds, *{name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names)
print(*(name for name in sys.modules if name.startswith("emu_robot.")))
"""
SCRIPT = """
from emu_robot import ActionChunk, EvalConfig, Observation, Plan, Planner, evaluate, load_policy, make, __version__

environment = make("tabletop", tasks=["long"])
observation: Observation = environment.reset(seed=1)
policy = load_policy("mini", goal="planner")
policy.reset(environment.instruction)
chunk: ActionChunk = policy.act(observation)
plan: Plan = Planner.load("mini").plan(observation, "open the drawer", max_steps=2)
words: list[str] = [step.subtask for step in plan.steps]
success: str = evaluate(EvalConfig(n=1)).success_line
version: str = __version__
"""
WRONG = """
import emu_robot

emu_robot.load_policy(3)
words: int = emu_robot.make("tabletop").instruction
emu_robot.no_such_name
"""


def test_importing_the_package_is_quick_and_loads_nothing_else() -> None:
    def imported() -> list[str]:
        answer = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, cwd=ROOT)
        return answer.stdout.splitlines()

    loaded, parts = imported()
    names = set(loaded.split()[1:])
    plain = subprocess.run(
        [sys.executable, "-c", LOADED.replace("import emu_robot", "")], capture_output=True, text=True
    )
    assert names - set(plain.stdout.split()) == {"emu_robot"} and parts == ""
    assert min(float(imported()[0].split()[0]) for _ in range(3)) < 0.05  # 0.002 s when nothing else runs


def test_every_name_is_there_and_is_what_type_checkers_see() -> None:
    assert set(emu_robot.__all__) <= set(dir(emu_robot))
    tree = ast.parse((ROOT / "emu_robot/__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {*seen, "__version__"} == set(emu_robot.__all__)
    for name, module in seen.items():
        assert module is not None
        assert getattr(emu_robot, name) is getattr(sys.modules[module], name)


def test_the_version_is_the_distributions() -> None:
    assert emu_robot.__version__ == metadata.version("emu_robot")
    assert emu_robot.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_a_checkout_that_is_not_installed_says_so() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import emu_robot; emu_robot.__version__"
    answer = subprocess.run([sys.executable, "-I", "-S", "-c", code, ROOT], capture_output=True, text=True)
    assert answer.stderr.splitlines()[-1].startswith("AttributeError: emu_robot is not installed and has no version")


def test_a_name_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'load_polcy'; it offers: ActionChunk, .*load_policy"):
        emu_robot.load_polcy  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
def test_an_outside_script_is_type_checked_against_the_wheel(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], check=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", symlinks=True)
    site = tmp_path / "venv/lib/python3.12/site-packages"
    zipfile.ZipFile(wheel).extractall(site)
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))  # numpy, torch and the rest
    assert (site / "emu_robot/py.typed").is_file()
    assert [wrong["rule"] for wrong in problems(tmp_path, SCRIPT)] == []
    rules = ["reportArgumentType", "reportAssignmentType", "reportAttributeAccessIssue"]
    assert [wrong["rule"] for wrong in problems(tmp_path, WRONG) if wrong["severity"] == "error"] == rules


def problems(folder: Path, script: str) -> list[dict[str, str]]:
    """What pyright says of a script outside of the checkout, which sees the package in `folder`/venv only."""
    (folder / "script.py").write_text(script)
    command = [Path(sys.executable).parent / "pyright", "--outputjson", "--pythonpath", folder / "venv/bin/python"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    answer = subprocess.run(
        [*command, "script.py"], capture_output=True, text=True, check=False, cwd=folder, env=environment
    )
    return json.loads(answer.stdout)["generalDiagnostics"]
