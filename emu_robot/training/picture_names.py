"""What the images of the planner's sequences show, as a loss halfway through the planner.

So the first half of the planner recognises objects, from every image of a sequence, and the second half has their names
to choose from.

Shapes: B batch, L sequence, D hidden, N cells of images, K names.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError
from emu_robot.models.transformer import RMSNorm
from emu_robot.tokenizers.interleave import Interleaver
from emu_robot.training.naming import SeenThings
from emu_robot.training.planner_config import SequenceConfig

RARE = -5.0
"""First bias of a name: a cell seldom shows it."""


class PictureNames:
    """The targets of `PictureNaming` for the images of a buffer."""

    def __init__(self, things: SeenThings, form: Interleaver) -> None:
        self.names = things.names
        self._things, self._form = things, form
        self._inside = np.array([i for i, token in enumerate(form.template, 1) if token is None])

    def targets(self, pictures: Sequence[Sequence[tuple[int, int]]]) -> dict[str, NDArray[np.generic]]:
        """named (N, K) float32, 1 for the names whose centre a cell holds; named_places (N, 2), where they are asked.

        pictures: image row and place of boi of each image, for each sequence. A cell is asked about at the id of its
        neighbour below and to the right, which has read all around it.
        """
        things, form = self._things, self._form.image
        known = [(b, row, begin) for b, held in enumerate(pictures) for row, begin in held if things.known[row]]
        named = np.zeros((len(known), form.rows, form.columns, len(self.names)), np.float32)
        for picture, (_, row, _) in enumerate(known):
            held = slice(things.begin[row], things.begin[row + 1])
            columns, rows = (things.place[held] * (form.columns, form.rows)).astype(int).T
            named[picture, rows, columns, things.name[held]] = 1
        after = np.minimum(np.arange(form.rows) + 1, form.rows - 1)[:, None] * form.columns
        after = (after + np.minimum(np.arange(form.columns) + 1, form.columns - 1)).ravel()
        places = [np.stack(np.broadcast_arrays(b, begin + self._inside[after]), -1) for b, _, begin in known]
        return {
            "named": named.reshape(-1, len(self.names)),
            "named_places": np.concatenate(places) if places else np.zeros((0, 2), np.int64),
        }


class PictureNaming(nn.Module):
    """Names in each cell, from the residual stream. Trained beside the planner, and left out of its weights."""

    def __init__(self, hidden_size: int, n_names: int) -> None:
        super().__init__()
        self.norm = RMSNorm(hidden_size, 1e-6)
        self.name = nn.Linear(hidden_size, n_names)
        nn.init.constant_(self.name.bias, RARE)

    def forward(self, states_BLD: Tensor, places_N2: Tensor, named_NK: Tensor) -> Tensor:
        """Binary cross entropy, summed over names and averaged over cells; 0 without a cell."""
        states = states_BLD[places_N2[:, 0], places_N2[:, 1]]
        logits = self.name(self.norm(states)).float()
        error = F.binary_cross_entropy_with_logits(logits, named_NK, reduction="sum")
        return error / max(len(named_NK), 1)


def picture_names(
    buffer: ReplayBuffer, camera: str, form: Interleaver, sequences: SequenceConfig
) -> PictureNames | None:
    """The names for a sampler; None if nothing is to be named. Raises `DataError` if the buffer tells no facts."""
    if sequences.naming_weight == 0:
        return None
    things = SeenThings.load(buffer, camera)
    if things is None:
        raise DataError(f"{buffer.path}: no episode tells what its pictures show; set sequences.naming_weight=0")
    return PictureNames(things, form)
