"""Translate LeRobot's batches: observations, pictures and left-over actions in our order, sizes and types.

Knows neither planner nor head. Suffixes: B batch, A action, S state, K left-over actions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lerobot.policies.rtc.modeling_rtc import RTCProcessor
from lerobot.utils.constants import OBS_STATE
from numpy.typing import NDArray
from torch import Tensor

from emu_robot.core import Observation
from emu_robot.errors import ConfigError, InvalidValueError, UnknownNameError
from emu_robot.lerobot.configuration_emu_robot import EmuRobotConfig
from emu_robot.observation.image_fit import ImageFit, fit_image
from emu_robot.policy.action_decoder import ActionPrefix
from emu_robot.robots.order import to_ours

NEXT_SUBTASK = "next_subtask"
"""The kind of text query that a planner answers."""


def to_observations(batch: Mapping[str, Any], config: EmuRobotConfig, size: int) -> list[Observation]:
    """One observation per environment, in our order of dimensions, with pictures of `size` pixels."""
    views = {camera: to_pictures(batch[key], size) for camera, key in config.cameras_in(batch).items()}
    state_BS = to_ours(batch[OBS_STATE].float().cpu().numpy(), config.state_order)
    return [
        Observation(images={camera: view[i] for camera, view in views.items()}, state=state)
        for i, state in enumerate(state_BS)
    ]


def to_pictures(images_B3HW: Tensor, size: int) -> NDArray[np.uint8]:
    """(B, 3, H, W) in [0, 1] -> (B, size, size, 3) uint8."""
    pictures = (images_B3HW.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return np.stack([fit_image(picture, size, ImageFit.pad) for picture in pictures])


def to_query(batch: Mapping[str, Any]) -> str:
    """The instruction about which a text query asks: `query_text`, or `task` without one.

    Raises `UnknownNameError` for a `query_kind` other than "next_subtask", `InvalidValueError` for several
    environments.
    """
    kinds, texts, tasks = (listed(batch.get(key, [])) for key in ("query_kind", "query_text", "task"))
    if (n := len(batch[OBS_STATE])) != 1:
        raise InvalidValueError(f"a text query is about one environment, not {n}")
    if kinds and kinds[0] != NEXT_SUBTASK:
        raise UnknownNameError("query_kind", kinds[0], [NEXT_SUBTASK])
    return (texts or tasks or [""])[0]


def listed(words: str | Sequence[str]) -> list[str]:
    """The words of a batch, one text for each environment; LeRobot passes that of a single one alone, too."""
    return [words] if isinstance(words, str) else list(words)


def to_prefix(
    left_over: Tensor | None, delay: int | None, horizon: int | None, config: EmuRobotConfig
) -> ActionPrefix | None:
    """Left-over actions (K, A) or (1, K, A) with their weights for real-time chunking; None without any.

    Raises `ConfigError` if `config` has no real-time chunking.
    """
    if left_over is None:
        return None
    actions_KA = left_over.reshape(-1, left_over.shape[-1]).float().cpu().numpy()
    actions_KA = to_ours(actions_KA, config.action_order)
    if config.rtc_config is None:
        raise ConfigError("prev_chunk_left_over needs rtc_config, which `--inference.type=rtc` sets")
    until = min(horizon or config.rtc_config.execution_horizon, len(actions_KA))
    weights = RTCProcessor(config.rtc_config).get_prefix_weights(delay or 0, until, len(actions_KA))
    return ActionPrefix(actions_KA, weights.numpy().astype(np.float32))
