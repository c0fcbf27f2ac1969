"""A planner that goes on with other tokenizers: what its ids mean is carried over.

Shapes: N pictures, h w grid of cells, P codes of a cell, V ids, D hidden.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from emu_robot.data.mapped_images import ImageSource
from emu_robot.errors import InvalidValueError
from emu_robot.models.transformer import CausalTransformer
from emu_robot.planner.planner import Planner, PlannerConfig
from emu_robot.tokenizers.image import ImageTokenizer
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.tokenizers.vocabulary import Vocabulary
from emu_robot.training.warm_start import carried_words

CARRIED_PICTURES = 2000
"""Pictures by which the codes of two image tokenizers are compared."""
NEIGHBOURS = 8
"""Nearest codes that lend an embedding to a code which the pictures do not show."""


@torch.no_grad()
def with_tokenizers(
    planner: Planner, text: TextTokenizer, images: ImageTokenizer, pictures: ImageSource
) -> tuple[CausalTransformer, PlannerConfig]:
    """The planner's model and configuration for other tokenizers.

    A piece of a word starts as the mean of the old pieces that spell it; a code as the mean of the old codes in the
    same cells of the same pictures, at most `CARRIED_PICTURES` of these (M, H, W, 3); a code that no picture shows as
    the mean of the nearest ones that are shown. An adaptation to parallel decoding is forgotten. Raises
    `InvalidValueError` for another grid of cells.
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
    some = pictures[np.linspace(0, len(pictures) - 1, min(len(pictures), CARRIED_PICTURES)).astype(int)]
    before, after = _cells(planner.images, some), _cells(images, some)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        old_VD = state[name]
        control = old_VD[ids.text_size : ids.first_code]
        codes = _codes(old_VD[ids.first_code :], before, after, images.quantize.codebook())
        state[name] = torch.cat([carried_words(old_VD, planner.text, text), control, codes])
    model.load_state_dict(state)
    return model, new


def _cells(tokenizer: ImageTokenizer, pictures: np.ndarray) -> Tensor:
    """(N, h w, P) codes of every cell."""
    codes = torch.from_numpy(tokenizer.encode_images(pictures).astype(np.int64))
    return codes.view(len(pictures), -1, tokenizer.config.codes_per_cell)


def _codes(old_KD: Tensor, before: Tensor, after: Tensor, book: Tensor) -> Tensor:
    """(K', D) of the new codes. before, after: (N, h w, P) old and new codes of the same pictures; book: (K', E)."""
    total = old_KD.new_zeros(len(book), old_KD.shape[1])
    count = old_KD.new_zeros(len(book))
    meant = old_KD[before].mean(2)
    for part in range(after.shape[2]):
        total.index_add_(0, after[..., part].flatten(), meant.flatten(0, 1))
        count.index_add_(0, after[..., part].flatten(), torch.ones(after[..., part].numel()))
    shown = count > 0
    means = total[shown] / count[shown, None]
    nearest = torch.cdist(book[~shown], book[shown]).topk(min(NEIGHBOURS, len(means)), largest=False).indices
    total[shown] = means
    total[~shown] = means[nearest].mean(1)
    return total
