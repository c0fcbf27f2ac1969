"""Turn our weights into a checkpoint for LeRobot's commands."""

from pathlib import Path

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from emu_robot.data.lerobot_names import accepted_features
from emu_robot.errors import ConfigError
from emu_robot.lerobot.configuration_emu_robot import EmuRobotConfig
from emu_robot.lerobot.modeling_emu_robot import EmuRobotPolicy
from emu_robot.lerobot.processor_emu_robot import make_emu_robot_pre_post_processors
from emu_robot.models.weights import resolve_weights
from emu_robot.policy.action_decoder import ActionDecoder
from emu_robot.policy.weights_contract import head_contract
from emu_robot.shared.files import require_own_folder


def to_lerobot(weights: str | Path, out: Path) -> Path:
    """Write `out`: the weights folder, LeRobot's config and processors; return it.

    The input features are the training set's cameras, and the other names under which `accepted_features` knows them,
    so that an environment with any of these needs no rename_map.

    Raises `UnknownNameError` for missing weights, `WeightsError` for damaged ones, `ConfigError` if `out` holds other
    files, or for weights that command only some of a set's actions: LeRobot's robots and environments need all.
    """
    require_own_folder(out, "manifest.json", "weights")
    folder = resolve_weights(weights)
    decoder = ActionDecoder.load(folder)
    layout = decoder.layout
    if layout.unused_actions:
        left_out = ", ".join(layout.unused_actions)
        raise ConfigError(f"{folder}: commands nothing of {left_out}, which were left out; LeRobot needs every action")
    size = decoder.head.config.image_size
    named = head_contract(folder).camera_features
    accepted = accepted_features({camera: named.get(camera, f"{OBS_IMAGES}.{camera}") for camera in decoder.cameras})
    picture = PolicyFeature(FeatureType.VISUAL, (3, size, size))
    images = {feature: picture for features in accepted.values() for feature in features}
    n_states = max(len(layout.state_names), 1 + max(layout.state_order, default=0))
    state = PolicyFeature(FeatureType.STATE, (n_states,))
    config = EmuRobotConfig(
        weights=str(folder),
        chunk_size=decoder.action_horizon,
        input_features={**images, OBS_STATE: state},
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (len(layout.action_names),))},
        state_order=list(layout.state_order),
        action_order=list(layout.action_order),
        camera_features=accepted,
        push_to_hub=False,
    )
    EmuRobotPolicy(config).save_pretrained(out)
    for processor in make_emu_robot_pre_post_processors(config):
        processor.save_pretrained(out)
    return out
