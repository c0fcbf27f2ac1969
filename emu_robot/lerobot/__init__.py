"""Importing this package registers our policy, devices and environments with LeRobot's own commands.

LeRobot imports it by itself, see `plugin/`. Nothing else in emu_robot may import it.
"""

from emu_robot.lerobot.configuration_emu_robot import EmuRobotConfig
from emu_robot.lerobot.env import EmuTabletopEnv
from emu_robot.lerobot.gated_robot import EmuGated, EmuGatedConfig
from emu_robot.lerobot.last_words import speak_last
from emu_robot.lerobot.robot import EmuSimPanda, EmuSimPandaConfig
from emu_robot.lerobot.teleoperator import EmuSimExpert, EmuSimExpertConfig

__all__ = [
    "EmuGated",
    "EmuGatedConfig",
    "EmuRobotConfig",
    "EmuSimExpert",
    "EmuSimExpertConfig",
    "EmuSimPanda",
    "EmuSimPandaConfig",
    "EmuTabletopEnv",
]

speak_last()
