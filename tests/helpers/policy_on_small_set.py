"""Our policy under LeRobot, made to be trained on a small set of another robot."""

from pathlib import Path
from typing import Any

import torch

from emu_robot.lerobot.configuration_emu_robot import EmuRobotConfig
from emu_robot.lerobot.modeling_emu_robot import EmuRobotPolicy


def made(weights: Path, dataset: Path, **settings: Any) -> tuple[EmuRobotPolicy, Any]:
    """A policy to train on the set, and the set."""
    from lerobot.configs import FeatureType
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.utils.feature_utils import dataset_to_policy_features

    data = LeRobotDataset("local/set", root=dataset, video_backend="pyav")
    features = dataset_to_policy_features(data.meta.features)
    inputs = {key: feature for key, feature in features.items() if feature.type is not FeatureType.ACTION}
    config = EmuRobotConfig(
        weights=str(weights),
        planner_camera="top",
        device="cpu",
        push_to_hub=False,
        input_features=inputs,
        output_features={"action": features["action"]},
        **settings,
    )
    return EmuRobotPolicy(config, dataset_meta=data.meta), data


def batch(data: Any, indices: Any) -> dict[str, Any]:
    """Frames of the set as LeRobot's loader gives them."""
    frames = [data[i] for i in indices]
    keys = ("observation.state", "action", "index", "observation.images.side", "observation.images.top")
    return {key: torch.stack([frame[key] for frame in frames]) for key in keys} | {"task": [f["task"] for f in frames]}
