"""A planner that goes on with other tokenizers: what its ids mean is carried over.

Shapes: N pictures, h w grid of cells, P codes of a cell, V ids, D hidden.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from emu_robot.errors import InvalidValueError
from emu_robot.models.transformer import CausalTransformer
from emu_robot.planner.planner import Planner, PlannerConfig
from emu_robot.tokenizers.image import ImageTokenizer
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.tokenizers.vocabulary import Vocabulary

NEIGHBOURS = 8
"""Nearest codes that lend an embedding to a code which the pictures do not show."""


@torch.no_grad()
def with_tokenizers(
    planner: Planner, text: TextTokenizer, images: ImageTokenizer, pictures_NHW3: np.ndarray
) -> tuple[CausalTransformer, PlannerConfig]:
    """The planner's model and configuration for other tokenizers.

    A piece of a word starts as the mean of the old pieces that spell it; a code as the mean of the old codes in the
    same cells of the same pictures; a code that no picture shows as the mean of the nearest ones that are shown. An
    adaptation to parallel decoding is forgotten. Raises `InvalidValueError` for another grid of cells.
    """
    if images.config.grid != planner.images.config.grid:
        raise InvalidValueError(
            f"the image tokenizer to start with has {images.config.grid} cells a side, the planner's own "
            f"{planner.images.config.grid}: nothing can be carried over"
        )
    old, ids = planner.config, planner.interleaver.vocabulary
    form = replace(old.image, rows=images.config.grid, columns=images.config.columns)
    size = Vocabulary(text_size=text.size, n_codes=images.config.n_embed).size
    new = replace(old, image=form, model=replace(old.model, vocab_size=size), dida_path="")
    model = CausalTransformer(new.model)
    state = dict(planner.model.state_dict())
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        old_VD = state[name]
        control = old_VD[ids.text_size : ids.first_code]
        codes = _codes(old_VD[ids.first_code :], planner.images, images, pictures_NHW3)
        state[name] = torch.cat([_pieces(old_VD, planner.text, text), control, codes])
    model.load_state_dict(state)
    return model, new


def _pieces(old_VD: Tensor, old: TextTokenizer, new: TextTokenizer) -> Tensor:
    """(V, D) of the new pieces of words."""
    return torch.stack([old_VD[old.spell(piece)].mean(0) for piece in new.pieces])


def _codes(old_KD: Tensor, old: ImageTokenizer, new: ImageTokenizer, pictures: np.ndarray) -> Tensor:
    """(K', D) of the new codes."""
    cells = (len(pictures), -1)
    before = torch.from_numpy(old.encode_images(pictures).astype(np.int64)).view(*cells, old.config.codes_per_cell)
    after = torch.from_numpy(new.encode_images(pictures).astype(np.int64)).view(*cells, new.config.codes_per_cell)
    total = old_KD.new_zeros(new.config.n_embed, old_KD.shape[1])
    count = old_KD.new_zeros(new.config.n_embed)
    meant = old_KD[before].mean(2)
    for part in range(after.shape[2]):
        total.index_add_(0, after[..., part].flatten(), meant.flatten(0, 1))
        count.index_add_(0, after[..., part].flatten(), torch.ones(after[..., part].numel()))
    shown = count > 0
    means = total[shown] / count[shown, None]
    book = new.quantize.codebook()
    nearest = torch.cdist(book[~shown], book[shown]).topk(min(NEIGHBOURS, len(means)), largest=False).indices
    total[shown] = means
    total[~shown] = means[nearest].mean(1)
    return total
