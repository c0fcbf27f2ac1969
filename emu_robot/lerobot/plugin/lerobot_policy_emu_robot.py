"""What LeRobot imports when it looks for plugins: everything of ours registers itself."""

import emu_robot.lerobot  # noqa: F401
