"""Names and places of objects from the embeddings of an image's codes, so that the codes keep what a planner talks of.

Shapes: B batch, D embedding, K names, h w grid of codes. Places are in units of a code's cell, from the upper left.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CERTAIN = 0.5
"""Least probability at which an object counts as seen."""


TIE = 1e-7
"""Advantage of a window over the next one, so that the first of equal ones counts."""


class SeenObject(NamedTuple):
    """An object in an image."""

    name: str
    """In words."""
    u: float
    """Column of its centre, in [0, 1) of the width."""
    v: float
    """Row of its centre, in [0, 1) of the height."""
    probability: float
    """That it is there."""


class NamedCells(NamedTuple):
    """What lies in each cell."""

    logits: Tensor
    """(B, K + 1, h, w) of the object whose centre the cell holds; the last one is none."""
    offsets: Tensor
    """(B, 2, h, w) column and row of that centre, from the cell's centre."""


class ObjectNaming(nn.Module):
    """(B, D, h, w) -> `NamedCells`, from the cells within two of each."""

    def __init__(self, embed_dim: int, names: Sequence[str], width: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.cells = nn.Sequential(
            nn.Conv2d(embed_dim, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 1),
            nn.SiLU(),
        )
        self.kind = nn.Conv2d(width, len(self.names) + 1, 1)
        self.offset = nn.Conv2d(width, 2, 1)

    def forward(self, z_BDhw: Tensor) -> NamedCells:
        hidden = self.cells(z_BDhw)
        return NamedCells(self.kind(hidden), self.offset(hidden))

    @torch.no_grad()
    def objects(self, z_BDhw: Tensor, certain: float = CERTAIN) -> list[list[SeenObject]]:
        """All objects of each image with at least that probability, see `objects_in`."""
        logits, offsets = self(z_BDhw)
        return objects_in(self.names, logits.float().softmax(1)[:, :-1], offsets, certain)


def objects_in(
    names: Sequence[str], probability_BKhw: Tensor, offsets_B2hw: Tensor, certain: float = CERTAIN
) -> list[list[SeenObject]]:
    """All objects of each image with at least that probability; one name may be seen twice.

    A centre on a border is shared by cells, so that the probability of an object is the sum over 2 x 2 of them.
    offsets: see `NamedCells`.
    """
    height, width = probability_BKhw.shape[2:]
    shared = F.avg_pool2d(F.pad(probability_BKhw, (0, 1, 0, 1)), 2, stride=1) * 4
    shared -= TIE * torch.arange(height * width, device=shared.device).view(height, width)
    peaks = (shared == F.max_pool2d(shared, 3, stride=1, padding=1)) & (shared >= certain)
    found: list[list[SeenObject]] = [[] for _ in probability_BKhw]
    for b, name, row, column in peaks.nonzero().tolist():
        there = [(i, j) for i in (row, row + 1) for j in (column, column + 1) if i < height and j < width]
        weights = [float(probability_BKhw[b, name, i, j]) for i, j in there]
        places = [
            (j + 0.5 + float(offsets_B2hw[b, 0, i, j]), i + 0.5 + float(offsets_B2hw[b, 1, i, j])) for i, j in there
        ]
        total = sum(weights)
        u, v = (sum(w * place[axis] for w, place in zip(weights, places, strict=True)) / total for axis in (0, 1))
        found[b].append(SeenObject(names[int(name)], u / width, v / height, min(total, 1.0)))
    return found
