"""Who may import what: light modules must load with the heavy packages blocked."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import emu_robot

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
OFFICIAL = ("accelerate", "bitsandbytes", "psutil", "tiktoken")  # what the extra [emu35] brings
NETWORKS = (*SIMULATION, *OFFICIAL, "lerobot", "hydra", "omegaconf")
ALL = ("numpy", *HEAVY, "scipy", "PIL", "av", "rich")
# Rooms and root modules of emu_robot, lowest level first. None imports one that stands after it, and each level loads
# without the packages named beside it.
LEVELS = {
    "numpy": (
        HEAVY,
        (
            *("errors", "core", "shared", "doctor", "robots", "environments"),
            *("observation", "control", "recording", "teleop"),
        ),
    ),
    "data": (tuple(set(HEAVY) - {"zarr"}), ("data",)),
    "models": (NETWORKS, ("models", "tokenizers")),
    "policy": (NETWORKS, ("planner", "policy", "emu35", "evaluation", "serving")),
    "deploy": (HEAVY, ("deploy", "watch")),
    "training": ((*SIMULATION, "hydra", "omegaconf"), ("training",)),
    "lerobot": (("hydra", "omegaconf"), ("lerobot",)),
    "face": (ALL, ("__init__",)),
    "cli": (ALL[1:], ("config", "cli")),
}
WRITERS = {
    *("data/dataset_card.py", "data/lerobot_export.py", "data/lerobot_labels.py", "data/repair.py"),
    *("data/merge_sets.py", "data/session_episode.py"),
}
"""They write LeRobotDatasets, and load as the room lerobot does."""
ROOMS = [room for _, rooms in LEVELS.values() for room in rooms]
FILES = sorted((ROOT / "emu_robot").rglob("*.py"))


def room_of(file: Path) -> str:
    """The folder of emu_robot that a file is in, or its own name if it lies at the root."""
    return file.relative_to(ROOT / "emu_robot").with_suffix("").parts[0]


def files_of(level: str) -> list[Path]:
    """Every file that must load at this level."""
    writers = {ROOT / "emu_robot" / name for name in WRITERS}
    own = {file for file in FILES if room_of(file) in LEVELS[level][1]}
    return sorted(own | writers if level == "lerobot" else own - writers)


def test_every_room_has_one_level_and_every_file_is_loaded_at_one() -> None:
    assert sorted(ROOMS) == sorted({room_of(file) for file in FILES})
    assert sorted(file for level in LEVELS for file in files_of(level)) == FILES


@pytest.mark.parametrize("level", LEVELS)
def test_level_imports_without_what_is_above_it(level: str) -> None:
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files_of(level)]
    code = BLOCK.format(blocked=set(LEVELS[level][0]), modules=[name.removesuffix(".__init__") for name in modules])
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr[-2000:]


def test_no_room_imports_one_above_it() -> None:
    for file in FILES:
        for name in imported_names(file):
            package, _, rest = name.partition(".")
            if package == "emu_robot":
                room = rest.partition(".")[0]
                room = "__init__" if room in emu_robot.__all__ else room
                assert ROOMS.index(room) <= ROOMS.index(room_of(file)), f"{file.relative_to(ROOT)} imports {name}"


def test_settings_that_the_command_line_reads_load_without_torch() -> None:
    names = ("planner.decoding.config", "planner.subtask_monitor", "policy.config", "evaluation.config")
    code = BLOCK.format(blocked={"torch", *SIMULATION}, modules=[f"emu_robot.{name}" for name in names])
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr[-2000:]


def test_simulation_knows_nothing_of_the_policy() -> None:
    modules = [f"emu_sim.{path.stem}" for path in sorted((ROOT / "sim/emu_sim").glob("[a-z]*.py"))]
    code = BLOCK.format(blocked={"torch", "lerobot", "hydra", "zarr", "tokenizers"}, modules=modules)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr[-2000:]


@pytest.mark.parametrize("way", [["-c", "import probe"], ["-m", "probe"]])
def test_our_folder_datasets_never_shadows_hugging_face_s(way: list[str], tmp_path: Path) -> None:
    assert (ROOT / "datasets").is_dir() and not list((ROOT / "datasets").rglob("__init__.py"))
    (tmp_path / "probe.py").write_text("import datasets; print(datasets.Dataset.__module__, datasets.__file__)")
    path = os.pathsep.join((str(ROOT), str(tmp_path)))
    command, environment = [sys.executable, *way], os.environ | {"PYTHONPATH": path}
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert answer.returncode == 0, answer.stderr[-2000:]
    module, file = answer.stdout.split(maxsplit=1)
    assert module == "datasets.arrow_dataset" and not Path(file.strip()).is_relative_to(ROOT / "datasets")


def test_only_data_training_and_the_plugin_know_lerobot_and_nobody_the_plugin() -> None:
    above = ("hydra", "omegaconf", "emu_robot.config", "emu_robot.cli")
    for file in sorted((ROOT / "emu_robot").rglob("*.py")):
        place = file.relative_to(ROOT / "emu_robot").as_posix()
        for name in imported_names(file):
            if place.startswith("lerobot/"):
                assert not name.startswith(above), f"{place} imports {name}"
            else:
                door = place in ("cli/to_lerobot.py", "cli/teleop_devices.py")
                assert door or not name.startswith("emu_robot.lerobot"), f"{place} imports {name}"
                knows = place.startswith(("data/", "training/"))
                assert knows or name.split(".")[0] != "lerobot", f"{place} imports {name}"


def imported_names(file: Path) -> list[str]:
    """Every module that the file imports, be it inside a function."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    from_nodes = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return names + [f"{node.module}.{alias.name}" for node in from_nodes for alias in node.names]
