"""The established benchmarks of `emu-robot bench`: settings of an evaluation, and the packages that it needs.

`docs/BENCHMARKS.md` has the published figures. Knows no simulator.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from emu_robot.errors import SystemSetupError, UnknownNameError


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark."""

    about: str
    """Its tasks and protocol in words."""
    settings: tuple[str, ...]
    """Settings of `emu-robot eval` as they are typed. `out` is outputs/bench/NAME."""
    policy: str | None = None
    """Released weights that can play it; None: the caller names a policy."""
    module: str | None = None
    """The module that its packages bring; None if the project brings it."""
    packages: tuple[str, ...] = ()
    """What `install` asks a registry for."""
    by_hand: str = ""
    """What it needs beside the packages, and no registry has."""

    @property
    def missing(self) -> str:
        """What is not installed, in words; empty if nothing is."""
        if self.module is None or importlib.util.find_spec(self.module) is not None:
            return ""
        return f"package {self.module}"


METAWORLD = ("metaworld", ("metaworld==3.0.0",))
BENCHMARKS: Mapping[str, Benchmark] = {
    "tabletop": Benchmark(
        about="long-horizon tasks of the simulated table, held-out compositions, 100 layouts",
        settings=("env=tabletop", "tasks=long", "split=heldout", "n=100", "seed=1"),
        policy="mini",
    ),
    "tabletop2": Benchmark(
        about="all tasks of the richer table, split dev, 100 layouts",
        settings=("env=tabletop2", "tasks=all", "split=dev", "n=100", "seed=0"),
        policy="mini2",
    ),
    "metaworld-mt10": Benchmark(
        about="10 tasks of Meta-World, 10 episodes each, LeRobot's seeds, pictures of 128 px",
        settings=("env=lerobot:metaworld/MT10,image_size=128", "n=100", "seed=1000"),
        module=METAWORLD[0],
        packages=METAWORLD[1],
    ),
    "metaworld-mt50": Benchmark(
        about="50 tasks of Meta-World, 10 episodes each, LeRobot's seeds, pictures of 128 px",
        settings=("env=lerobot:metaworld/MT50,image_size=128", "n=500", "seed=1000"),
        module=METAWORLD[0],
        packages=METAWORLD[1],
    ),
    "pusht": Benchmark(
        about="push a T onto its outline, 500 episodes, LeRobot's seeds",
        settings=("env=lerobot:pusht", "n=500", "seed=1000"),
        module="gym_pusht",
        packages=("gym-pusht==0.1.8",),
    ),
    "aloha": Benchmark(
        about="two ViperX arms hand a cube over (AlohaTransferCube-v0), 500 episodes, LeRobot's seeds",
        settings=("env=lerobot:aloha/AlohaTransferCube-v0", "n=500", "seed=1000"),
        module="gym_aloha",
        packages=("gym-aloha==0.1.5",),
    ),
    "libero_object": Benchmark(
        about="10 tasks of LIBERO's suite object, 50 initial states each, both cameras at 256 px",
        settings=(
            "env=lerobot:libero/libero_object,observation_height=256,observation_width=256",
            *("n=500", "seed=1000"),
        ),
        module="libero",
        packages=("hf-libero==0.1.4",),
        by_hand="LIBERO's scenes and meshes in a folder of its own, and LIBERO_CONFIG_PATH (docs/BENCHMARKS.md)",
    ),
}
"""Name -> benchmark."""


def benchmark(name: str) -> Benchmark:
    """The benchmark of a name. Raises `UnknownNameError` with the known ones."""
    if name not in BENCHMARKS:
        raise UnknownNameError("benchmark", name, BENCHMARKS)
    return BENCHMARKS[name]


def install(name: str) -> str:
    """Install what a benchmark lacks; return a line that says what was done.

    No installed package changes its version. Raises `SystemSetupError` if a registry cannot be asked, if the packages
    do not fit the installed ones, or if something is needed that no registry has.
    """
    chosen = benchmark(name)
    done = f"{name}: nothing is missing"
    if chosen.missing:
        _get(name, chosen.packages)
        importlib.invalidate_caches()
        if chosen.missing:
            raise SystemSetupError(f"{name}: {', '.join(chosen.packages)} are installed and bring no {chosen.module}")
        done = f"{name}: installed {', '.join(chosen.packages)}"
    return f"{done}; by hand: {chosen.by_hand}" if chosen.by_hand else done


def _get(name: str, packages: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in _installed()))
        command = [*_installer(), *packages, "-c", str(constraints)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        said = " ".join((answer.stderr or answer.stdout).split())[-400:]
        raise SystemSetupError(f"{name} cannot be installed beside the present packages ({said})")


def _installed() -> list[str]:
    """Every installed package with its version, but not those that were installed from a folder."""
    found = {one.name: one for one in distributions() if one.name}
    return sorted(f"{name}=={one.version}" for name, one in found.items() if not one.read_text("direct_url.json"))


def _installer() -> list[str]:
    """The command that installs packages into this environment."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    return [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
