"""Choosing ids from logits: greedy at temperature 0, else temperature and top-k, apart for words and for images."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from emu_robot.shared.settings import check_ranges, number


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How ids are chosen."""

    text_temperature: float = number(0.0, 0)
    """Temperature of words; 0 is greedy."""
    text_top_k: int = number(0, 0)
    """Number of likeliest words to draw from; 0: all."""
    image_temperature: float = number(0.0, 0)
    """Temperature of codes; 0 is greedy."""
    image_top_k: int = number(0, 0)
    """Number of likeliest codes to draw from; 0: all."""
    image_likeness: float = number(0.1, 0)
    """Squared distance in the codebook within which codes count as alike in greedy choice, see `likeliest_look`; 0: no
    codes are alike."""
    image_guidance: float = number(1.0, 1)
    """Scale of classifier-free guidance, see `guided`; 1 is without."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class RowGenerators:
    """A generator for each row of a batch, so that a row's numbers depend on its own seed alone.

    A row with None draws nothing and gets zeros.
    """

    rows: Sequence[torch.Generator | None]
    device: torch.device

    @classmethod
    def seeded(cls, seeds: Sequence[int], device: torch.device) -> "RowGenerators":
        """One row for each seed."""
        return cls([torch.Generator(device).manual_seed(seed) for seed in seeds], device)

    def only(self, rows: Collection[int]) -> "RowGenerators":
        """These generators, with None for all rows but `rows`."""
        return RowGenerators([one if i in rows else None for i, one in enumerate(self.rows)], self.device)


type Randomness = torch.Generator | RowGenerators


def uniform(shape: Sequence[int], randomness: Randomness | None, device: torch.device) -> Tensor:
    """Numbers in [0, 1) of this shape; the first dimension counts rows."""
    if not isinstance(randomness, RowGenerators):
        return torch.rand(tuple(shape), generator=randomness, device=device)
    inner = tuple(shape[1:])
    still = torch.zeros(inner, device=device)
    rows = (still if one is None else torch.rand(inner, generator=one, device=device) for one in randomness.rows)
    return torch.stack(list(rows))


def sample(
    logits: Tensor, temperature: float, top_k: int, randomness: Randomness | None = None, top_p: float = 1.0
) -> Tensor:
    """(..., V) logits -> (...) int64 ids. top_p: share of the probability that the likeliest ids must make up."""
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
    return draw(p, randomness)


def draw(weights: Tensor, randomness: Randomness | None = None) -> Tensor:
    """(..., V) weights, not all 0 -> (...) ids, each as likely as its weight.

    One random number a row; `torch.multinomial` draws one for every id, which takes most of its time on a CPU.
    """
    summed = weights.float().cumsum(-1)
    where = uniform(weights.shape[:-1], randomness, weights.device)[..., None] * summed[..., -1:]
    found = torch.searchsorted(summed, where.clamp(max=summed[..., -1:] * (1 - 1e-6)), right=True)
    return found.squeeze(-1).clamp(max=weights.shape[-1] - 1)


class Candidates(NamedTuple):
    """Ids to choose from at each place."""

    logits: Tensor
    """(..., C) logits, up to a constant of each place."""
    ids: Tensor
    """(..., C) the ids int64, in rising order."""

    @classmethod
    def of(cls, logits: Tensor) -> "Candidates":
        """All ids of (..., V)."""
        return cls(logits, torch.arange(logits.shape[-1], device=logits.device).expand_as(logits))

    def sample(self, temperature: float, top_k: int, randomness: Randomness | None = None) -> Tensor:
        """(...) ids, see `sample`."""
        return self._at(sample(self.logits, temperature, top_k, randomness))

    def likeliest_look(self, codebook_KD: Tensor, likeness: float, count: int = 64) -> Tensor:
        """(...) the code that is likeliest together with those like it: argmax of sum_y p(y) exp(-|x - y|² / likeness).

        Plain greedy choice would prefer the one code of an unchanged cell to many codes that show the same change with
        small differences. Only the `count` likeliest codes are counted.
        """
        top = self.logits.float().topk(min(count, self.logits.shape[-1]), -1)
        looks_BCD = codebook_KD[self.ids.gather(-1, top.indices)]
        squares_BC = looks_BCD.square().sum(-1)
        distance_BCC = squares_BC[..., None] + squares_BC[..., None, :] - 2 * looks_BCD @ looks_BCD.mT
        alike_BCC = (-distance_BCC / likeness).exp()
        best_B1 = (alike_BCC @ top.values.softmax(-1)[..., None]).squeeze(-1).argmax(-1, keepdim=True)
        return self._at(top.indices.gather(-1, best_B1).squeeze(-1))

    def _at(self, index: Tensor) -> Tensor:
        return self.ids.gather(-1, index[..., None]).squeeze(-1)


def guided(with_words: Tensor, without: Tensor, scale: float, count: int = 64) -> Candidates:
    """The `count` likeliest ids of logits (..., V) with words, with logits by classifier-free guidance.

    log p(without words) + scale * (log p(with words) - log p(without words))
    """
    ids = with_words.topk(min(count, with_words.shape[-1]), -1, sorted=False).indices.sort(-1).values
    with_words, without = (logits.gather(-1, ids).float() for logits in (with_words, without))
    return Candidates(without + scale * (with_words - without), ids)
