"""The scripted expert as the teleoperator of the simulated arm: `--teleop.type=emu_sim_expert`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig
from lerobot.utils.decorators import check_if_already_connected, check_if_not_connected

from emu_robot.lerobot import targets
from emu_robot.lerobot.robot import connected_robot
from emu_robot.robots.spec import PANDA

HOME = np.array([*PANDA.home, 1.0], np.float32)
"""(8,) joints at home [rad], gripper open."""


@TeleoperatorConfig.register_subclass("emu_sim_expert")
@dataclass(kw_only=True)
class EmuSimExpertConfig(TeleoperatorConfig):
    """Settings of the expert."""

    robot_id: str | None = None
    """The `--robot.id` of the `emu_sim_panda` to drive; both are none by default."""


class EmuSimExpert(Teleoperator):
    """Drives the `EmuSimPanda` of this process that has the configured id, by its simulation's true state.

    It holds still at home once the whole task is done, and while LeRobot announces a reset. Its targets lie within the
    joint limits, so that recorded and sent targets are equal.
    """

    config_class = EmuSimExpertConfig
    name = "emu_sim_expert"

    def __init__(self, config: EmuSimExpertConfig) -> None:
        super().__init__(config)
        self.config = config
        self._is_connected = False

    @property
    def action_features(self) -> dict[str, Any]:
        return dict.fromkeys(PANDA.action_names, float)

    @property
    def feedback_features(self) -> dict[str, Any]:
        return {}

    @property
    def is_connected(self) -> bool:
        return self._is_connected

    @check_if_already_connected
    def connect(self, calibrate: bool = True) -> None:
        """Be ready; the robot may connect later, as in LeRobot's own commands."""
        self._is_connected = True

    @property
    def is_calibrated(self) -> bool:
        return True

    def calibrate(self) -> None:
        """A script needs none."""

    def configure(self) -> None:
        """Nothing to set."""

    @check_if_not_connected
    def get_action(self) -> dict[str, float]:
        """The next targets. Raises `DeviceNotConnectedError` if no robot of this id is connected."""
        robot = connected_robot(self.config.robot_id)
        environment = robot.environment
        is_idle = robot.is_resetting or environment.subtask is None
        return targets.named(HOME if is_idle else targets.clipped(environment.expert().action()))

    @check_if_not_connected
    def send_feedback(self, feedback: dict[str, Any]) -> None:
        """A script feels nothing."""

    @check_if_not_connected
    def disconnect(self) -> None:
        """Let go of the robot."""
        self._is_connected = False
