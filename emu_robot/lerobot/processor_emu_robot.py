"""LeRobot's pipelines around our policy: names, batch and device. Numbers pass unchanged."""

from typing import Any

from lerobot.processor import PolicyAction, PolicyProcessorPipeline, make_default_pre_post_processors

from emu_robot.lerobot.configuration_emu_robot import EmuRobotConfig


def make_emu_robot_pre_post_processors(
    config: EmuRobotConfig, dataset_stats: dict[str, dict[str, Any]] | None = None
) -> tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]], PolicyProcessorPipeline[PolicyAction, PolicyAction]
]:
    """The default pipelines; their normalisation is the identity, see `EmuRobotConfig.normalization_mapping`."""
    return make_default_pre_post_processors(config, dataset_stats)
