"""The action head: current views, goal image, words and joint state -> action chunk and progress.

All numbers here are normalised (`emu_robot.models.normalize`); images are (B, 3, H, W) float in [-1, 1]. The head also
works without a goal image or without words. Knows nothing of planners or environments.
Suffixes: B batch, N noise samples, T chunk, A action, S state, L text ids, P keyposes, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emu_robot.errors import ConfigError, InvalidValueError
from emu_robot.models.flow import FlowDecoder, interpolate
from emu_robot.models.tracing import traced
from emu_robot.models.vision import GoalFusion, ImageStem, KeypointTrunk
from emu_robot.shared.settings import check_ranges, number

MOST_CAMERAS = 16
"""Largest number of cameras of a head; each has layers of its own."""


@dataclass(frozen=True, kw_only=True)
class HeadSizes:
    """Sizes of an action head."""

    action_horizon: int = number(16, 1, 1000)
    """Actions of a predicted chunk [control ticks]."""
    text_width: int = number(128, 4, 2**13)
    """Width of the text encoder; a multiple of 4."""
    channels: int = number(64, 8, 2**12)
    """Channels of the fine feature map; a multiple of 8."""
    keypoints: int = number(32, 1, 2**12)
    """Number of keypoints of each camera's trunk."""
    goal_view_fine_blocks: int = number(1, 0, 64)
    """Residual blocks at a quarter of the resolution, behind the first camera."""
    goal_view_coarse_blocks: int = number(2, 0, 64)
    """Residual blocks at an eighth of the resolution, behind the first camera."""
    other_view_fine_blocks: int = number(0, 0, 64)
    """Residual blocks at a quarter of the resolution, behind each other camera."""
    other_view_coarse_blocks: int = number(2, 0, 64)
    """Residual blocks at an eighth of the resolution, behind each other camera."""
    width: int = number(512, 1, 2**14)
    """Width of the feature vector of an observation."""
    context_blocks: int = number(2, 0, 64)
    """Residual blocks that compute the feature vector."""
    flow_width: int = number(320, 1, 2**14)
    """Width of the flow decoder."""
    flow_blocks: int = number(3, 0, 64)
    """Residual blocks of the flow decoder."""
    keyposes: int = number(2, 1, 64)
    """Number of coming gripper events that are predicted."""

    def __post_init__(self) -> None:
        check_ranges(self, "head")
        for name, factor in (("channels", 8), ("text_width", 4)):
            if getattr(self, name) % factor:
                raise ConfigError(f"head.{name} must be a multiple of {factor}, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class HeadConfig(HeadSizes):
    """Configuration of an action head: its sizes, and the dimensions of its training data."""

    cameras: list[str] = field(default_factory=lambda: ["front", "wrist"])
    """Cameras of the head, all different. The first one is the planner's camera, which shows the goals."""
    image_size: int = number(128, 8, 2**12)
    """Height and width of its images [px]; a multiple of 8."""
    state_dim: int = number(8, 1, 2**12)
    """Dimensions of the state."""
    action_dim: int = number(8, 1, 2**12)
    """Dimensions of an action."""
    relative_dims: int = number(7, 0, 2**12)
    """Number of first action dimensions that are targets of the same dimensions of the state."""
    text_vocabulary: int = number(1024, 1, 2**20)
    """Number of word ids, including padding."""
    text_length: int = number(32, 1, 2**12)
    """Number of word ids of the longest instruction or subtask that can be read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % 8:
            raise ConfigError(f"head.image_size must be a multiple of 8, got {self.image_size}")
        if self.relative_dims > min(self.state_dim, self.action_dim):
            raise ConfigError(f"head.relative_dims must lie within state and action, got {self.relative_dims}")
        check_cameras(self.cameras)


def check_cameras(cameras: Sequence[str]) -> None:
    """Raise `ConfigError` unless there are 1 to `MOST_CAMERAS` names and all differ."""
    if len(cameras) > MOST_CAMERAS:
        raise ConfigError(f"{len(cameras)} cameras are given, a head has at most {MOST_CAMERAS}")
    if not cameras or len(set(cameras)) != len(cameras):
        raise ConfigError(f"cameras must be different names, at least one, got {cameras}")


_PER_CAMERA = ("stem", "trunk")


class StepFeatures(NamedTuple):
    """What the head reads of a step alone; equal for all chunks of it."""

    text_BD: Tensor
    """Features of the words."""
    goal_BCHW: Tensor | None
    """Feature map of the goal image, if there is one."""


class HeadContext(NamedTuple):
    """Features and predictions of one observation, from which chunks are sampled."""

    features_BD: Tensor
    """Features."""
    keypose_BPS: Tensor
    """State deltas to the coming gripper events."""
    remaining_BP: Tensor
    """Steps to these events, divided by 100."""
    progress_B: Tensor
    """Logit of the progress through the subtask."""


class TextEncoder(nn.Module):
    """Padded token ids (B, L), 0 = padding -> (B, D). Rows of padding alone mean "no words"."""

    def __init__(self, vocabulary: int, length: int, width: int, layers: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(length + 1, width) * 0.02)
        self.summary = nn.Parameter(torch.zeros(width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.embedding.weight, std=0.5)

    def forward(self, ids_BL: Tensor) -> Tensor:
        words_BLD = torch.cat([self.summary.expand(len(ids_BL), 1, -1), self.embedding(ids_BL)], dim=1)
        padding_BL = nn.functional.pad(ids_BL == 0, (1, 0), value=False)
        hidden_BLD = self.layers(words_BLD + self.position[: words_BLD.shape[1]], src_key_padding_mask=padding_BL)
        return self.norm(hidden_BLD[:, 0])


class ContextBlock(nn.Module):
    """A pre-norm residual MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x_BD: Tensor) -> Tensor:
        return x_BD + self.mlp(x_BD)


class ActionHead(nn.Module):
    """Flow matching over action chunks from camera views, joint state, words and an optional goal image."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.text = TextEncoder(c.text_vocabulary, c.text_length, c.text_width)
        self.fusion = GoalFusion(c.channels)
        goal_view, other_view = (
            (c.goal_view_fine_blocks, c.goal_view_coarse_blocks),
            (c.other_view_fine_blocks, c.other_view_coarse_blocks),
        )
        seen_dim = 0
        for camera in c.cameras:
            blocks = goal_view if camera == c.cameras[0] else other_view
            trunk = KeypointTrunk(c.channels, c.keypoints, c.text_width, *blocks)
            self.add_module(f"{camera}_stem", ImageStem(c.channels))
            self.add_module(f"{camera}_trunk", trunk)
            seen_dim += trunk.out_dim
        self.context = nn.Sequential(
            nn.Linear(seen_dim + c.state_dim + c.text_width + 1, c.width),
            *(ContextBlock(c.width) for _ in range(c.context_blocks)),
            nn.LayerNorm(c.width),
        )
        self.keypose = nn.Linear(c.width, c.keyposes * c.state_dim)
        self.remaining = nn.Linear(c.width, c.keyposes)
        self.progress = nn.Linear(c.width, 1)
        aim_dim = c.keyposes * (c.state_dim + 1)
        self.flow = FlowDecoder(c.action_horizon * c.action_dim, c.width + aim_dim, c.flow_width, c.flow_blocks)

    def encode(
        self,
        views: Sequence[Tensor],
        state_BS: Tensor,
        ids_BL: Tensor,
        goal_BCHW: Tensor | None = None,
        has_goal_B: Tensor | None = None,
    ) -> HeadContext:
        """One pass over the observation. Without goal images all rows, with `has_goal_B` its False rows have no goal.

        views: (B, 3, H, W) of each camera, in the order of `HeadConfig.cameras`.
        """
        return self.see(views, state_BS, self.read_step(ids_BL, goal_BCHW), has_goal_B)

    def read_step(self, ids_BL: Tensor, goal_BCHW: Tensor | None) -> StepFeatures:
        """The part of `encode` that depends on words and goal image alone."""
        (stem, *_), _ = self._per_camera()
        return StepFeatures(self.text(ids_BL), None if goal_BCHW is None else stem(goal_BCHW))

    def see(
        self, views: Sequence[Tensor], state_BS: Tensor, step: StepFeatures, has_goal_B: Tensor | None = None
    ) -> HeadContext:
        """The rest of `encode`."""
        (stems, trunks), text_BD = self._per_camera(), step.text_BD
        maps = [stem(view_BCHW) for stem, view_BCHW in zip(stems, views, strict=True)]
        maps[0] = self.fusion(maps[0], step.goal_BCHW, has_goal_B)
        if has_goal_B is None:
            has_goal_B = torch.full((len(state_BS),), step.goal_BCHW is not None, device=state_BS.device)
        flag_B1 = has_goal_B.to(state_BS.dtype)[:, None]
        seen = [trunk(map_BCHW, text_BD) for trunk, map_BCHW in zip(trunks, maps, strict=True)]
        features_BD = self.context(torch.cat([*seen, state_BS, text_BD, flag_B1], dim=1))
        keypose_BPS = self.keypose(features_BD).view(-1, self.config.keyposes, self.config.state_dim)
        return HeadContext(features_BD, keypose_BPS, self.remaining(features_BD), self.progress(features_BD)[:, 0])

    def trace(self) -> None:
        """Make traced code of its large parts, in place, see `models.tracing`; the head can no longer be trained."""
        like = next(self.parameters())
        view = like.new_zeros(1, 3, self.config.image_size, self.config.image_size)
        text = like.new_zeros(1, self.config.text_width)
        for camera in self.config.cameras:
            stem, trunk = (getattr(self, f"{camera}_{kind}") for kind in _PER_CAMERA)
            setattr(self, f"{camera}_stem", traced(stem, forward=(view,)))
            setattr(self, f"{camera}_trunk", traced(trunk, forward=(stem(view), text)))
        features = like.new_zeros(1, self.flow.context_in.in_features)
        noisy, time = like.new_zeros(1, 1, self.flow.data_dim), like.new_zeros(1, 1)
        made = self.flow.modulations(time, features)
        self.flow.traced = traced(self.flow, modulations=(time, features), predict=(noisy, *made))

    def _per_camera(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Stem and trunk of each camera."""
        stems, trunks = ([getattr(self, f"{camera}_{kind}") for camera in self.config.cameras] for kind in _PER_CAMERA)
        return stems, trunks

    def denoise(self, context: HeadContext, noisy_BND: Tensor, time_BN: Tensor) -> Tensor:
        """Predicted chunks (B, N, T*A). No gradient flows from here to the keyposes."""
        return self.flow(noisy_BND, time_BN, self._condition(context))

    def forward(self, batch: dict[str, Tensor]) -> tuple[HeadContext, Tensor]:
        """Training pass over a batch of `training.head_sampler`. Returns context and predicted chunks (B, N, T*A)."""
        context = self.encode_batch(batch)
        noisy_BND = interpolate(batch["noise"], batch["actions"].flatten(1), batch["time"])
        return context, self.denoise(context, noisy_BND, batch["time"])

    def encode_batch(self, batch: dict[str, Tensor]) -> HeadContext:
        """`encode` for a batch of `training.head_sampler`."""
        views = [batch[f"view.{camera}"] for camera in self.config.cameras]
        return self.encode(views, *(batch[name] for name in ("state", "text", "goal", "has_goal")))

    def sample(
        self, context: HeadContext, noise_BTA: Tensor, steps: int = 8, known: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Normalised chunks (B, T, A) from Gaussian noise of that shape, by `steps` Euler steps.

        known: actions (B, T, A) and weights (B, T, 1) that pull every prediction towards them.
        """
        flat = None
        if known is not None:
            flat = known[0].flatten(1), known[1].expand_as(noise_BTA).flatten(1)
        return self.flow.sample(self._condition(context), noise_BTA.flatten(1), steps, flat).view_as(noise_BTA)

    def _condition(self, context: HeadContext) -> Tensor:
        aim_BD = torch.cat([context.keypose_BPS.flatten(1), context.remaining_BP], dim=1).detach()
        return torch.cat([context.features_BD, aim_BD], dim=1)


def text_ids(tokens: Sequence[int], config: HeadConfig) -> NDArray[np.int64]:
    """Tokens -> (L,) ids of the head's text encoder: shifted by one, padded by 0. Raises for longer texts."""
    if len(tokens) > config.text_length:
        raise InvalidValueError(
            f"a text of {len(tokens)} word ids; the head reads at most {config.text_length}, as many as its training "
            "needed; shorten the instruction, or train with instructions of this length"
        )
    if tokens and not 0 <= min(tokens) <= max(tokens) < config.text_vocabulary - 1:
        raise InvalidValueError(f"text token {max(tokens)}; the head knows {config.text_vocabulary - 1} tokens")
    ids = np.zeros(config.text_length, np.int64)
    ids[: len(tokens)] = np.asarray(tokens, np.int64) + 1
    return ids
