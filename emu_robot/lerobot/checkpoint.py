"""Weights of ours as a checkpoint that LeRobot's commands load."""

from pathlib import Path

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from emu_robot.lerobot.configuration_emu_robot import EmuRobotConfig
from emu_robot.lerobot.modeling_emu_robot import EmuRobotPolicy
from emu_robot.lerobot.processor_emu_robot import make_emu_robot_pre_post_processors
from emu_robot.models.weights import resolve_weights
from emu_robot.policy.action_decoder import ActionDecoder


def to_lerobot(weights: str | Path, out: Path) -> Path:
    """Write `out`: the weights folder itself, and LeRobot's config and processors; returns it.

    Raises `UnknownNameError` for weights that are not there, `WeightsError` for damaged ones.
    """
    folder = resolve_weights(weights)
    decoder = ActionDecoder.load(folder)
    size = decoder.head.config.image_size
    images = {
        f"{OBS_IMAGES}.{camera}": PolicyFeature(FeatureType.VISUAL, (3, size, size)) for camera in decoder.cameras
    }
    state = PolicyFeature(FeatureType.STATE, (len(decoder.layout.state_names),))
    config = EmuRobotConfig(
        weights=str(folder),
        chunk_size=decoder.action_horizon,
        input_features={**images, OBS_STATE: state},
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (len(decoder.layout.action_names),))},
        push_to_hub=False,
    )
    EmuRobotPolicy(config).save_pretrained(out)
    for processor in make_emu_robot_pre_post_processors(config):
        processor.save_pretrained(out)
    return out
