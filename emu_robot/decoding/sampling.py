"""Choosing ids from logits: greedy at temperature 0, else temperature and top-k, apart for words and for images."""

from dataclasses import dataclass

import torch
from torch import Tensor

from emu_robot.errors import InvalidValueError


@dataclass(kw_only=True)
class SamplingConfig:
    """temperature 0 is greedy; top_k 0 keeps all ids. seed starts the generator of a decoder."""

    text_temperature: float = 0.0
    text_top_k: int = 0
    image_temperature: float = 0.0
    image_top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("text_temperature", "text_top_k", "image_temperature", "image_top_k"):
            if getattr(self, name) < 0:
                raise InvalidValueError(f"{name} is {getattr(self, name)}, must be at least 0")


def sample(
    logits: Tensor, temperature: float, top_k: int, generator: torch.Generator | None = None, top_p: float = 1.0
) -> Tensor:
    """(..., V) logits -> (...) int64 ids. top_p: of the probability, the likeliest ids that make it up stay."""
    if temperature == 0:
        return logits.argmax(-1)
    if 0 < top_k < logits.shape[-1]:
        threshold = logits.topk(top_k, -1).values[..., -1:]
        logits = logits.masked_fill(logits < threshold, -torch.inf)
    p = (logits / temperature).softmax(-1)
    if top_p < 1:
        ordered, order = p.sort(dim=-1, descending=True)
        beyond = ordered.cumsum(-1) - ordered >= top_p
        p = p.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), 0.0)
    return torch.multinomial(p.flatten(0, -2), 1, generator=generator).view(p.shape[:-1])
