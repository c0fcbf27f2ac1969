"""The module that LeRobot imports as a plugin. It registers our policy, devices and environments."""

import emu_robot.lerobot  # noqa: F401
