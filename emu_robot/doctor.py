"""Checks of the machine. Each missing thing is one line that says how to get it. Standard library only."""

import argparse
import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

RUN_GB, INSTALL_GB = 2.0, 12.0
EGL_PACKAGES = "libegl1 libegl-mesa0 libgl1-mesa-dri"
RENDER_ONE_FRAME = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='.1'/></worldbody></mujoco>")
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(mujoco.MjData(model))
renderer.render()
"""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Result of one check."""

    name: str
    """Name of the checked thing."""
    problem: str | None = None
    """One line that says what is missing and how to get it; None if nothing is."""
    required: bool = True
    """Whether nothing runs without it."""


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Check:
    """Python must be 3.12."""
    name = "Python " + ".".join(map(str, version))
    if version[:2] == (3, 12):
        return Check(name=name)
    return Check(name=name, problem="Python 3.12 is needed. Get it: apt-get install python3.12 python3.12-venv")


def check_disk(folder: Path, needed_gb: float = RUN_GB) -> Check:
    """`folder` must have `needed_gb` free."""
    free_gb = shutil.disk_usage(folder).free / 1e9
    name = f"{free_gb:.0f} GB free in {folder}"
    if free_gb >= needed_gb:
        return Check(name=name)
    return Check(name=name, problem=f"{needed_gb:g} GB are needed in {folder}, {free_gb:.1f} are free. Free some space")


def check_egl() -> Check:
    """The EGL library that MuJoCo renders with must load."""
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        return Check(name="EGL library", problem=f"no libEGL.so.1. Get it: apt-get install {EGL_PACKAGES}")
    return Check(name="EGL library")


def check_render() -> Check:
    """MuJoCo must draw one frame off screen. A separate process tries it, because a bad driver can abort a process."""
    environment = os.environ | {"MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl")}
    command = [sys.executable, "-c", RENDER_ONE_FRAME]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    if answer.returncode == 0:
        return Check(name="off-screen rendering")
    said = (answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"])[-1]
    fix = f"Get a software driver: apt-get install {EGL_PACKAGES}"
    return Check(name="off-screen rendering", problem=f"MuJoCo cannot render ({said}). {fix}")


def check_compiler() -> Check:
    """g++ should be there, for torch.compile only."""
    if shutil.which("g++"):
        return Check(name="g++")
    problem = "no g++: training runs uncompiled and slower. Get it: apt-get install g++"
    return Check(name="g++", problem=problem, required=False)


def run_checks(*, before_install: bool = False) -> list[Check]:
    """Run every check; before the install, only checks of what the install needs."""
    checks = [check_python(), check_disk(Path.cwd(), INSTALL_GB if before_install else RUN_GB), check_egl()]
    checks.append(check_compiler())
    if not before_install:
        if importlib.util.find_spec("mujoco") is None:
            checks.append(Check(name="packages", problem="mujoco is not installed. Get it: make setup"))
        elif checks[2].problem is None:
            checks.append(check_render())
    return checks


def report(checks: list[Check]) -> bool:
    """Print one line per check. Returns whether every required check passed."""
    for check in checks:
        if check.problem is None:
            print(f"ok       {check.name}")
        else:
            print(f"{'missing' if check.required else 'warning'}  {check.problem}", file=sys.stderr)
    return all(check.problem is None or not check.required for check in checks)


def main() -> None:
    """Run as `python -m emu_robot.doctor --install-size` before the install, as `emu-robot doctor` after it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--install-size", action="store_true", help="check the space that the install needs")
    sys.exit(0 if report(run_checks(before_install=parser.parse_args().install_size)) else 1)


if __name__ == "__main__":
    main()
