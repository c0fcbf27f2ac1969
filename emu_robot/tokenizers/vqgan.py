"""VQGAN-style convolutional encoder and decoder, with the module names of the official IBQ checkpoints.

Two extensions, both off by default so that official weights load: `patch_size` moves pixels into channels before the
first and after the last convolution (cheap on a CPU), and `learned_position` adds a learned map at the widest and the
narrowest resolution (a static camera's background then needs no code). Knows nothing of codes.

Shapes: B batch, C channels, H W image in pixels, h w grid of codes.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """As torch's, which refuses a group of a single value (a grid of one code, a channel per group): its mean is the
    value, so the bias comes out."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def group_norm(channels: int) -> GroupNorm:
    """GroupNorm with 32 groups, or the largest number below that divides `channels`."""
    return GroupNorm(math.gcd(32, channels), channels, eps=1e-6)


class ResnetBlock(nn.Module):
    """Twice norm, swish, convolution, plus the input (through a 1x1 convolution if the width changes)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + h


class AttnBlock(nn.Module):
    """Single-head self-attention over all positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = (conv(normed).flatten(2).transpose(1, 2).contiguous() for conv in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(h)


class Downsample(nn.Module):
    """Stride-2 convolution after padding right and bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The blocks of one resolution. The owner sets `downsample` or `upsample` if the level has one."""

    def __init__(self, widths: list[int], attention: bool) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.block = nn.ModuleList(ResnetBlock(a, b) for a, b in pairs)
        self.attn = nn.ModuleList(AttnBlock(b) for _, b in pairs if attention)

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn) > 0:
                x = self.attn[i](x)
        return x


class Middle(nn.Module):
    """Two residual blocks, optionally with attention between them."""

    def __init__(self, channels: int, attention: bool) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels)
        self.attn_1 = AttnBlock(channels) if attention else nn.Identity()
        self.block_2 = ResnetBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """(B, 3, H, W) -> (B, z_channels, h, w)."""

    def __init__(
        self,
        *,
        ch: int,
        ch_mult: list[int],
        num_res_blocks: int,
        attn_resolutions: list[int],
        mid_attention: bool,
        resolution: int,
        z_channels: int,
        patch_size: int = 1,
        learned_position: bool = False,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        size = resolution // patch_size
        self.conv_in = nn.Conv2d(3 * patch_size**2, ch, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(ch, size, size)) if learned_position else None
        self.down = nn.ModuleList()
        width = ch
        for i, multiplier in enumerate(ch_mult):
            level = Level([width] + [ch * multiplier] * num_res_blocks, size in attn_resolutions)
            width = ch * multiplier
            if i < len(ch_mult) - 1:
                level.downsample = Downsample(width)
                size //= 2
            self.down.append(level)
        self.mid = Middle(width, mid_attention)
        self.norm_out = group_norm(width)
        self.conv_out = nn.Conv2d(width, z_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv_in(F.pixel_unshuffle(images, self.patch_size) if self.patch_size > 1 else images)
        if self.position is not None:
            x = x + self.position
        for level in self.down:
            x = level(x)
            if hasattr(level, "downsample"):
                x = level.downsample(x)  # pyright: ignore[reportCallIssue]
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """(B, z_channels, h, w) -> (B, 3, H, W)."""

    def __init__(
        self,
        *,
        ch: int,
        ch_mult: list[int],
        num_res_blocks: int,
        attn_resolutions: list[int],
        mid_attention: bool,
        resolution: int,
        z_channels: int,
        patch_size: int = 1,
        learned_position: bool = False,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        size = resolution // patch_size // 2 ** (len(ch_mult) - 1)
        width = ch * ch_mult[-1]
        self.conv_in = nn.Conv2d(z_channels, width, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(width, size, size)) if learned_position else None
        self.mid = Middle(width, mid_attention)
        levels: list[nn.Module] = []
        for i in reversed(range(len(ch_mult))):
            level = Level([width] + [ch * ch_mult[i]] * (num_res_blocks + 1), size in attn_resolutions)
            width = ch * ch_mult[i]
            if i > 0:
                level.upsample = Upsample(width)
                size *= 2
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out = group_norm(width)
        self.background = nn.Parameter(torch.zeros(width, size, size)) if learned_position else None
        self.conv_out = nn.Conv2d(width, 3 * patch_size**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.conv_in(z)
        if self.position is not None:
            x = x + self.position
        x = self.mid(x)
        for level in reversed(self.up):
            x = level(x)
            if hasattr(level, "upsample"):
                x = level.upsample(x)  # pyright: ignore[reportCallIssue]
        x = F.silu(self.norm_out(x))
        x = self.conv_out(x if self.background is None else x + self.background)
        return F.pixel_shuffle(x, self.patch_size) if self.patch_size > 1 else x
