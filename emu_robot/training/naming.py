"""What the images of a replay buffer show, as targets of the object naming of an image tokenizer.

Shapes: M stored images, B batch, K names, h w grid of codes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from emu_robot.core import Fact
from emu_robot.data.episode import read_facts
from emu_robot.data.questions import OPENS
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.tokenizers.object_naming import NamedCells

UNKNOWN = -100
"""Kind of a cell of an image without facts; such cells are no targets."""
NONE_WEIGHT = 0.1
"""Weight of a cell without an object; most cells have none."""


@dataclass(frozen=True)
class SeenThings:
    """Names and centres of the visible objects of every stored image."""

    names: list[str]
    """(K,) every name, in alphabetical order; a thing that opens has two, such as "open drawer"."""
    begin: NDArray[np.int64]
    """(M + 1,) first object of each image."""
    name: NDArray[np.int64]
    """(N,) index of each object's name."""
    place: NDArray[np.float32]
    """(N, 2) column and row of its centre, in [0, 1) of width and height."""
    known: NDArray[np.bool_]
    """(M,) whether the image has facts."""

    @classmethod
    def load(cls, buffer: ReplayBuffer, camera: str) -> "SeenThings | None":
        """From the facts of the episodes that were laid out; None if there are none."""
        height, width = buffer.images(camera).shape[1:3]
        seen: list[list[tuple[str, float, float]]] = []
        known: list[bool] = []
        begin = 0
        for meta, end in zip(buffer.metadata, buffer.image_ends.tolist(), strict=True):
            facts = read_facts(meta.get("facts", "[]"))
            known += [bool(facts)] * (end - begin)
            seen += [_seen(of, width, height) for of in facts] or [[] for _ in range(end - begin)]
            begin = end
        names = sorted({name for things in seen for name, _, _ in things})
        if not names:
            return None
        index = {name: i for i, name in enumerate(names)}
        return cls(
            names=names,
            begin=np.cumsum([0, *map(len, seen)]),
            name=np.array([index[name] for things in seen for name, _, _ in things], np.int64),
            place=np.array([(u, v) for things in seen for _, u, v in things], np.float32).reshape(-1, 2),
            known=np.array(known),
        )

    def targets(self, rows: NDArray[np.int64], grid: int) -> dict[str, Tensor]:
        """kinds (B, h, w) int64, K for none and `UNKNOWN`, and offsets (B, 2, h, w), see `NamedCells`."""
        kinds = np.full((len(rows), grid, grid), len(self.names), np.int64)
        kinds[~self.known[rows]] = UNKNOWN
        offsets = np.zeros((len(rows), 2, grid, grid), np.float32)
        for b, row in enumerate(rows.tolist()):
            held = slice(self.begin[row], self.begin[row + 1])
            for name, (u, v) in zip(self.name[held], grid * self.place[held], strict=True):
                kinds[b, int(v), int(u)] = name
                offsets[b, :, int(v), int(u)] = u - int(u) - 0.5, v - int(v) - 0.5
        return {"kinds": torch.from_numpy(kinds), "offsets": torch.from_numpy(offsets)}


def naming_loss(named: NamedCells, kinds_Bhw: Tensor, offsets_B2hw: Tensor) -> Tensor:
    """Cross entropy of what each cell holds, plus the mean absolute error of the centres, in cells."""
    logits = named.logits.float()
    none = logits.shape[1] - 1
    weight = torch.ones(none + 1, device=logits.device)
    weight[none] = NONE_WEIGHT
    error = F.cross_entropy(logits, kinds_Bhw, weight, ignore_index=UNKNOWN, reduction="sum")
    known = (kinds_Bhw != UNKNOWN).sum().clamp(min=1)
    held = ((kinds_Bhw >= 0) & (kinds_Bhw < none))[:, None]
    misplaced = ((named.offsets.float() - offsets_B2hw).abs() * held).sum() / held.sum().clamp(min=1)
    return error / (NONE_WEIGHT * known) + misplaced


def _seen(facts: Mapping[str, Fact], width: int, height: int) -> list[tuple[str, float, float]]:
    """Name, column and row of what is visible and inside the picture."""
    return [
        (f"{fact.place} {name}" if fact.place in OPENS else name, fact.u / width, fact.v / height)
        for name, fact in facts.items()
        if fact.is_visible and 0 <= fact.u < width and 0 <= fact.v < height
    ]
