"""Losses shared by training stages. Knows nothing of files or robots.

Shapes: B batch, H W image, L sequence, V vocabulary. Pixels in [-1, 1].
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def importance_BHW(images: Tensor, background: Tensor, foreground: float, colour: float) -> Tensor:
    """Weight of every pixel: 1 where the image equals the background, more around differences.

    images (B, 3, H, W), background (3, H, W). A clear difference adds `foreground`, a clear difference in hue adds
    `colour` (small coloured objects against a large grey arm). The weight spreads two pixels around a difference.
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


class NearCodes(NamedTuple):
    """The nearest codes of every code of a codebook, on the codebook's device."""

    codes: Tensor
    """(K, k) nearest codes, the code itself first."""
    shares: Tensor
    """(K, k) their shares as a target, which add up to 1."""
    first_code: int
    """Embedding of code 0."""


def near_digits(books_PSD: Tensor, temperature: float, first_code: int) -> tuple[NearCodes, ...]:
    """The nearest codes of each book; the embeddings of its entries follow those of the book before."""
    return tuple(near_codes(book, temperature, first_code + i * len(book)) for i, book in enumerate(books_PSD))


def near_codes(codebook_KD: Tensor, temperature: float, first_code: int, count: int = 16) -> NearCodes:
    """The nearest codes of each code; shares are softmax(-squared distance / temperature). 0: the code alone."""
    if temperature == 0:
        codes_K1 = torch.arange(len(codebook_KD), device=codebook_KD.device)[:, None]
        return NearCodes(codes_K1, torch.ones_like(codes_K1, dtype=torch.float32), first_code)
    distance_KK = torch.cdist(codebook_KD, codebook_KD).square().fill_diagonal_(0)
    nearest = distance_KK.topk(min(count, len(codebook_KD)), largest=False)
    return NearCodes(nearest.indices, (-nearest.values / temperature).softmax(-1), first_code)


def changed_codes(targets: Tensor, references: Tensor, near: NearCodes) -> Tensor:
    """Where a target is a code, and another one than in the image before."""
    return (targets >= near.first_code) & (targets != references)


def weighted_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    shared: Tensor | None = None,
    near: NearCodes | None = None,
) -> Tensor:
    """Cross entropy of logits (..., V) averaged with a weight per target (...); 0 excludes a position.

    shared: (...) where the target is a code that is shared with its nearest codes in `near`. The loss there is the
    divergence from these shares, 0 at best.
    """
    log_p = logits.float().log_softmax(-1)
    losses = -log_p.gather(-1, targets[..., None]).squeeze(-1)
    if shared is not None and near is not None:
        codes_N = targets[shared] - near.first_code
        shares_Nk = near.shares[codes_N]
        log_p_Nk = log_p[shared].gather(1, near.codes[codes_N] + near.first_code)
        divergence_N = (shares_Nk * (shares_Nk.clamp_min(1e-12).log() - log_p_Nk)).sum(-1)
        losses = losses.masked_scatter(shared, divergence_N)
    return (losses * weights).sum() / weights.sum().clamp_min(1e-6)


def codebook_usage(codes: Tensor, size: int) -> Tensor:
    """Perplexity of the codes of one batch: how many codes are in even use (at most `size`)."""
    counts = torch.bincount(codes.flatten(), minlength=size).float()
    share = counts / counts.sum()
    return torch.exp(-(share * (share + 1e-10).log()).sum())
