"""LeRobot's observations as ours, and ours as LeRobot's batches. Both directions keep every number.

Pictures are (H, W, 3) uint8 here and (1, 3, H, W) float in [0, 1] there. Suffixes: B batch.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import OBS_IMAGE, OBS_IMAGES, OBS_STATE

from emu_robot.core import Image, Observation

NO_WORDS = "(no instruction)"
"""Instruction of a task that LeRobot describes by no words; its policies get an empty text."""


def to_observation(batch: Mapping[str, Any]) -> Observation:
    """The observation of the only environment in a batch, after LeRobot's processors of the environment."""
    images = {camera_name(key): _to_image(value[0]) for key, value in batch.items() if _is_picture(key)}
    state = batch[OBS_STATE][0].to(torch.float32).cpu().numpy().reshape(-1) if OBS_STATE in batch else np.zeros(0)
    return Observation(images=images, state=state.astype(np.float32))


def to_batch(observation: Observation, instruction: str, wanted: Collection[str]) -> dict[str, Any]:
    """The batch of one environment. wanted: the policy's input features, which decide how a camera's key is spelt."""
    batch: dict[str, Any] = {}
    for camera, image in observation.images.items():
        picture_B3HW = torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2).contiguous()
        batch[camera_key(camera, wanted)] = picture_B3HW.type(torch.float32) / 255
    if observation.state.size:
        batch[OBS_STATE] = torch.from_numpy(observation.state)[None].float()
    return batch | {"task": ["" if instruction == NO_WORDS else instruction]}


def camera_name(key: str) -> str:
    """A camera's name: "top" for observation.images.top, "image" for observation.image."""
    return key.removeprefix(f"{OBS_IMAGES}.") if key.startswith(f"{OBS_IMAGES}.") else key.removeprefix("observation.")


def camera_key(camera: str, wanted: Collection[str]) -> str:
    """LeRobot's key of a camera: the one of the two spellings that is wanted; observation.image for "image" if none."""
    spellings = (f"{OBS_IMAGES}.{camera}", f"observation.{camera}")
    usual = OBS_IMAGE if camera == "image" else spellings[0]
    return next((key for key in spellings if key in wanted), usual)


def _is_picture(key: str) -> bool:
    return key == OBS_IMAGE or key.startswith(f"{OBS_IMAGES}.")


def _to_image(picture_3HW: torch.Tensor) -> Image:
    return (picture_3HW * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
