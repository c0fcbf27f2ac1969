"""Who may import what: light modules must load with the heavy packages blocked."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = """
import importlib, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is not allowed here")
sys.meta_path.insert(0, Blocked())
for module in {modules!r}:
    importlib.import_module(module)
"""
SIMULATION = ("mujoco", "gymnasium", "gym_hil", "emu_sim")
HEAVY = (*SIMULATION, "torch", "lerobot", "hydra", "omegaconf", "zarr", "tokenizers")
# What a level may not import; every level may import the ones above it in this list.
LEVELS = {
    "core": (
        HEAVY,
        [
            "core",
            "robot_spec",
            "errors",
            "environments",
            "normalize",
            "chunking",
            "runtime",
            "doctor",
            "trajectory",
            "safety",
            "deployment",
            "robot_checks",
            "robot_file",
            "robot_parts",
            "image_fit",
            "observing",
            "image_encoding",
            "image_compression",
            "camera_messages",
            "joint_states",
            "teleop",
            "graph_file",
            "graph",
            "processes",
            "ros_environment",
            "ros_packages",
            "ros_checks",
            "preflight",
        ],
    ),
    "data": (tuple(set(HEAVY) - {"zarr"}), ["data.episode", "data.replay_buffer", "data.collect"]),
    "models": ((*SIMULATION, "lerobot", "hydra", "omegaconf"), ["tokenizers", "models", "decoding"]),
    "policy": ((*SIMULATION, "lerobot", "hydra", "omegaconf"), ["planner", "policy", "evaluation", "weights"]),
    "training": ((*SIMULATION, "hydra", "omegaconf"), ["training"]),
    "cli": ((*HEAVY, "scipy", "statsmodels", "PIL", "av", "rich"), ["config", "cli"]),
}


def modules_of(names: list[str]) -> list[str]:
    """Dotted names of modules and of every module inside the named packages."""
    found = []
    for name in names:
        path = ROOT / "emu_robot" / name.replace(".", "/")
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        found += [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in found]


@pytest.mark.parametrize("level", LEVELS)
def test_level_imports_without_what_is_above_it(level: str) -> None:
    blocked, names = LEVELS[level]
    code = BLOCK.format(blocked=set(blocked), modules=modules_of(names))
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr[-2000:]


def test_simulation_knows_nothing_of_the_policy() -> None:
    modules = [f"emu_sim.{path.stem}" for path in sorted((ROOT / "sim/emu_sim").glob("[a-z]*.py"))]
    code = BLOCK.format(blocked={"torch", "lerobot", "hydra", "zarr", "tokenizers"}, modules=modules)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr[-2000:]


def test_datasets_folder_never_shadows_the_package() -> None:
    assert not (ROOT / "datasets" / "__init__.py").exists()


def test_only_data_training_and_the_plugin_know_lerobot_and_nobody_the_plugin() -> None:
    above = ("hydra", "omegaconf", "emu_robot.config", "emu_robot.cli")
    for file in sorted((ROOT / "emu_robot").rglob("*.py")):
        place = file.relative_to(ROOT / "emu_robot").as_posix()
        for name in imported_names(file):
            if place.startswith("lerobot/"):
                assert not name.startswith(above), f"{place} imports {name}"
            else:
                door = place == "cli/to_lerobot.py"
                assert door or not name.startswith("emu_robot.lerobot"), f"{place} imports {name}"
                knows = place.startswith(("data/", "training/"))
                assert knows or name.split(".")[0] != "lerobot", f"{place} imports {name}"


def imported_names(file: Path) -> list[str]:
    """Every module that the file imports, be it inside a function."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return names + [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
