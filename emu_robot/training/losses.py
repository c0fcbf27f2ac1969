"""Losses shared by training stages. Knows nothing of files or robots.

Shapes: B batch, H W image, L sequence, V vocabulary. Pixels in [-1, 1].
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def importance_BHW(images: Tensor, background: Tensor, foreground: float, colour: float) -> Tensor:
    """Weight of every pixel: 1 where the image looks like the background, more around whatever differs from it.

    images (B, 3, H, W), background (3, H, W). A clear difference adds `foreground`, a clear difference in hue adds
    `colour` (small coloured objects against a large grey arm). Weights spread two pixels around what differs.
    """
    difference = images - background
    hue = difference - difference.mean(1, keepdim=True)
    differs = (difference.abs().amax(1, keepdim=True) / 0.3).clamp(max=1)
    coloured = (hue.abs().amax(1, keepdim=True) / 0.5).clamp(max=1)
    raised = F.max_pool2d(foreground * differs + colour * coloured, 5, stride=1, padding=2)
    return 1 + raised[:, 0]


def reconstruction_loss(output: Tensor, images: Tensor, weight_BHW: Tensor) -> Tensor:
    """Weighted mean of absolute plus squared pixel error."""
    error = output - images
    per_pixel = (error.abs() + error.square()).mean(1)
    return (weight_BHW * per_pixel).sum() / weight_BHW.sum()


def weighted_cross_entropy(logits_BLV: Tensor, targets_BL: Tensor, weights_BL: Tensor) -> Tensor:
    """Cross entropy averaged with a weight per target (0 leaves a position out)."""
    loss = F.cross_entropy(logits_BLV.flatten(0, 1).float(), targets_BL.flatten(), reduction="none")
    weights = weights_BL.flatten()
    return (loss * weights).sum() / weights.sum().clamp_min(1e-6)


def codebook_usage(codes: Tensor, size: int) -> Tensor:
    """Perplexity of the codes of one batch: how many codes are in even use (at most `size`)."""
    counts = torch.bincount(codes.flatten(), minlength=size).float()
    share = counts / counts.sum()
    return torch.exp(-(share * (share + 1e-10).log()).sum())
