"""LeRobot finds us: one installed name, whether editable or as a wheel, and everything registered behind it."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "emu_robot/lerobot/plugin"
NAME = "lerobot_policy_emu_robot"
FIND = f"""
import importlib.metadata, importlib.util, site, sys
site.addsitedir(sys.argv[1])
print(*(d.version for d in importlib.metadata.distributions() if d.metadata["Name"] == {NAME!r}))
print(importlib.util.find_spec({NAME!r}) is not None)
"""


def found_with(folder: Path) -> list[str]:
    """Version(s) of the plugin, and whether it can be imported, with `folder` as site-packages and nothing else."""
    answer = subprocess.run([sys.executable, "-I", "-S", "-c", FIND, str(folder)], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.split()


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_editable_install_shows_the_plugin(tmp_path: Path) -> None:
    folders = project()["tool"]["hatch"]["build"]["dev-mode-dirs"]
    (tmp_path / "editable.pth").write_text("\n".join(str(ROOT / folder) for folder in folders))
    assert found_with(tmp_path) == [project()["project"]["version"], "True"]


def test_wheel_shows_the_plugin(tmp_path: Path) -> None:
    wheel = project()["tool"]["hatch"]["build"]["targets"]["wheel"]
    (tmp_path / "emu_robot").symlink_to(ROOT / "emu_robot")
    for source, target in wheel["force-include"].items():
        if target.endswith(".pth"):
            (tmp_path / target).write_text((ROOT / source).read_text())
    assert found_with(tmp_path) == [project()["project"]["version"], "True"]


@pytest.mark.slow
def test_built_wheel_shows_the_plugin(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], check=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    assert found_with(site) == [project()["project"]["version"], "True"]
    assert len(list(site.rglob("*.pth"))) == len(list(site.rglob(f"{NAME}.py"))) == 1


def test_lerobot_imports_the_plugin_and_knows_its_types(monkeypatch: pytest.MonkeyPatch) -> None:
    from lerobot.envs import EnvConfig
    from lerobot.robots import RobotConfig
    from lerobot.teleoperators import TeleoperatorConfig
    from lerobot.utils.import_utils import register_third_party_plugins

    monkeypatch.syspath_prepend(PLUGIN)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    register_third_party_plugins()
    assert NAME in sys.modules
    assert EnvConfig.get_choice_class("emu_tabletop").__name__ == "EmuTabletopEnv"
    assert RobotConfig.get_choice_class("emu_gated").__name__ == "EmuGatedConfig"
    assert RobotConfig.get_choice_class("emu_sim_panda").__name__ == "EmuSimPandaConfig"
    assert TeleoperatorConfig.get_choice_class("emu_sim_expert").__name__ == "EmuSimExpertConfig"
