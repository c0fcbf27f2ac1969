"""Convolutional image trunks that end in keypoints. Knows nothing of actions or flow matching.

Suffixes: B batch, C channels, H W feature map, K keypoints, D feature vector.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

STRIDE = 4
"""Pixels per cell of the fine feature map."""


def zero_init(module: nn.Module) -> None:
    """Set every parameter of a module to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(8, channels)


class FiLM(nn.Module):
    """Scales and shifts feature channels by a condition; zero-initialised, so it starts as the identity."""

    def __init__(self, condition_dim: int, channels: int) -> None:
        super().__init__()
        self.projection = nn.Linear(condition_dim, 2 * channels)
        zero_init(self.projection)

    def forward(self, map_BCHW: Tensor, condition_BD: Tensor) -> Tensor:
        scale_BC, shift_BC = self.projection(condition_BD).chunk(2, dim=1)
        return map_BCHW * (1 + scale_BC[:, :, None, None]) + shift_BC[:, :, None, None]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with FiLM between them."""

    def __init__(self, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = _norm(channels)
        self.film = FiLM(condition_dim, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = _norm(channels)

    def forward(self, map_BCHW: Tensor, condition_BD: Tensor) -> Tensor:
        inner = torch.relu(self.film(self.first_norm(self.first(map_BCHW)), condition_BD))
        return torch.relu(map_BCHW + self.second_norm(self.second(inner)))


class ImageStem(nn.Sequential):
    """(B, 3, H, W) pixels -> (B, C, H/4, W/4) local features."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.PixelUnshuffle(STRIDE),
            nn.Conv2d(3 * STRIDE**2, channels, 3, padding=1, bias=False),
            _norm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            _norm(channels),
            nn.ReLU(),
        )


class GoalFusion(nn.Module):
    """Adds to the current features those of the goal and, zero-initialised, the difference of both.

    Goal and current features come from the same stem. A learned embedding replaces a missing goal.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.goal = nn.Conv2d(channels, channels, 1)
        self.difference = nn.Conv2d(channels, channels, 1)
        zero_init(self.difference)
        self.no_goal = nn.Parameter(torch.zeros(channels))

    def forward(self, current_BCHW: Tensor, goal_BCHW: Tensor | None, has_goal_B: Tensor | None) -> Tensor:
        absent_C11 = self.no_goal[:, None, None]
        if goal_BCHW is None:
            return current_BCHW + absent_C11
        added_BCHW = self.goal(goal_BCHW) + self.difference(goal_BCHW - current_BCHW)
        if has_goal_B is not None:
            added_BCHW = torch.where(has_goal_B[:, None, None, None], added_BCHW, absent_C11)
        return current_BCHW + added_BCHW


class KeypointTrunk(nn.Module):
    """Fine features -> a vector with K keypoints, the features at each, and a global summary.

    Keypoint positions are expectations under a spatial softmax, x and y in [-1, 1]. The
    condition chooses the feature of a keypoint through a zero-initialised query.
    """

    value_dim = 16

    def __init__(self, channels: int, keypoints: int, condition_dim: int, fine_blocks: int, coarse_blocks: int) -> None:
        super().__init__()
        coarse = 2 * channels
        self.fine = nn.ModuleList(ResidualBlock(channels, condition_dim) for _ in range(fine_blocks))
        self.down = nn.Sequential(
            nn.Conv2d(channels, coarse, 3, stride=2, padding=1, bias=False), _norm(coarse), nn.ReLU()
        )
        self.coarse = nn.ModuleList(ResidualBlock(coarse, condition_dim) for _ in range(coarse_blocks))
        self.fine_logits = nn.Conv2d(channels, keypoints, 1)
        self.coarse_logits = nn.Conv2d(coarse, keypoints, 1)
        self.query = nn.Linear(condition_dim, keypoints * channels)
        zero_init(self.query)
        self.value = nn.Conv2d(channels, self.value_dim, 1)
        self.keypoints = keypoints
        self.out_dim = keypoints * (2 + self.value_dim) + coarse

    def forward(self, map_BCHW: Tensor, condition_BD: Tensor) -> Tensor:
        """-> (B, out_dim)."""
        for block in self.fine:
            map_BCHW = block(map_BCHW, condition_BD)
        coarse_BCHW = self.down(map_BCHW)
        for block in self.coarse:
            coarse_BCHW = block(coarse_BCHW, condition_BD)
        attention_BKHW = self.attention(map_BCHW, coarse_BCHW, condition_BD)
        height, width = attention_BKHW.shape[2:]
        x_W = torch.linspace(-1, 1, width, device=map_BCHW.device)
        y_H = torch.linspace(-1, 1, height, device=map_BCHW.device)
        with _full_precision(map_BCHW.device):  # 8 bits of mantissa would blur positions
            x_BK = attention_BKHW.sum(2).float() @ x_W
            y_BK = attention_BKHW.sum(3).float() @ y_H
        value_BDN = self.value(map_BCHW).flatten(2)
        seen_BKD = attention_BKHW.flatten(2).to(value_BDN.dtype) @ value_BDN.transpose(1, 2)
        seen = torch.cat([x_BK, y_BK, seen_BKD.flatten(1), coarse_BCHW.mean((2, 3))], dim=1)
        return seen.to(self.query.weight.dtype)

    def attention(self, fine_BCHW: Tensor, coarse_BCHW: Tensor, condition_BD: Tensor) -> Tensor:
        """Attention (B, K, H, W) of each keypoint, with sum 1 over H W."""
        batch, channels, height, width = fine_BCHW.shape
        query_BKC = self.query(condition_BD).view(batch, self.keypoints, channels)
        asked_BKHW = (query_BKC @ fine_BCHW.flatten(2)).view(batch, self.keypoints, height, width)
        coarse_BKHW = nn.functional.interpolate(self.coarse_logits(coarse_BCHW), scale_factor=2.0, mode="bilinear")
        logits_BKHW = self.fine_logits(fine_BCHW) + coarse_BKHW + asked_BKHW
        return logits_BKHW.float().flatten(2).softmax(-1).view(batch, self.keypoints, height, width)


def _full_precision(device: torch.device) -> AbstractContextManager:
    """No autocast within; the meta device knows none."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
