"""Codes with a digit for each of several books, as numbers."""

import torch
from torch import Tensor


def join_digits(digits: Tensor, size: int) -> Tensor:
    """(..., P) digits below `size`, the first one most significant -> (...) codes below size^P."""
    weights = size ** torch.arange(digits.shape[-1] - 1, -1, -1, device=digits.device)
    return (digits * weights).sum(-1)


def split_digits(codes: Tensor, size: int, parts: int) -> Tensor:
    """The inverse of `join_digits`: (...) codes -> (..., P) digits."""
    weights = size ** torch.arange(parts - 1, -1, -1, device=codes.device)
    return codes[..., None] // weights % size
