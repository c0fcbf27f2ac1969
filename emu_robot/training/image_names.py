"""What the images of the planner's sequences show, as a loss halfway through the planner.

Shapes: B batch, L sequence, D hidden, N cells of images, K names.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError
from emu_robot.models.transformer import CausalTransformer
from emu_robot.planner.planner import PlannerConfig
from emu_robot.tokenizers.interleave import Interleaver
from emu_robot.training.naming import SeenThings


class ImageNames:
    """The targets of a model's `naming` for the images of a buffer."""

    def __init__(self, things: SeenThings, form: Interleaver) -> None:
        self._things, self._form = things, form.image
        self._asked = 1 + form.naming_places()

    def targets(self, pictures: Sequence[Sequence[tuple[int, int]]]) -> dict[str, NDArray[np.generic]]:
        """named (N, K) float32, 1 for the names whose centre a cell holds; named_places (N, 2), where they are asked.

        pictures: image row and place of boi of each image, for each sequence.
        """
        things, form = self._things, self._form
        known = [(b, row, begin) for b, held in enumerate(pictures) for row, begin in held if things.known[row]]
        named = np.zeros((len(known), form.rows, form.columns, len(things.names)), np.float32)
        for picture, (_, row, _) in enumerate(known):
            held = slice(things.begin[row], things.begin[row + 1])
            columns, rows = (things.place[held] * (form.columns, form.rows)).astype(int).T
            named[picture, rows, columns, things.name[held]] = 1
        places = [np.stack(np.broadcast_arrays(b, begin + self._asked), -1) for b, _, begin in known]
        return {
            "named": named.reshape(-1, len(things.names)),
            "named_places": np.concatenate(places) if places else np.zeros((0, 2), np.int64),
        }


def naming_error(model: CausalTransformer, states: Sequence[Tensor], places_N2: Tensor, named_NK: Tensor) -> Tensor:
    """Binary cross entropy of a planner's names, summed over names and averaged over cells; 0 without a cell.

    states: the residual stream (B, L, D) after each block.
    """
    logits = model.naming(states[model.halfway][places_N2[:, 0], places_N2[:, 1]]).float()
    return F.binary_cross_entropy_with_logits(logits, named_NK, reduction="sum") / max(len(named_NK), 1)


def load_names(buffer: ReplayBuffer, camera: str, naming_weight: float) -> SeenThings | None:
    """What the images show; None if nothing is to be named. Raises `DataError` if the buffer tells no facts."""
    if naming_weight == 0:
        return None
    things = SeenThings.load(buffer, camera)
    if things is None:
        raise DataError(f"{buffer.path}: no episode tells what its pictures show; set sequences.naming_weight=0")
    return things


def with_names(
    model: CausalTransformer, settings: PlannerConfig, things: SeenThings | None
) -> tuple[CausalTransformer, PlannerConfig]:
    """The same planner, to be trained on these names. Those that it does not know start untrained.

    Without names it forgets those that it knows, as they would no longer fit what a training makes of its blocks.
    """
    names = [] if things is None else things.names
    if names == settings.names:
        return model, settings
    if not names:
        print(f"the planner forgets its {len(settings.names)} names: sequences.naming_weight=0")
    new = replace(settings, names=names, model=replace(settings.model, n_names=len(names)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        changed = CausalTransformer(new.model)
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith("naming.")}
    changed.load_state_dict(changed.state_dict() | kept)
    return changed, new
