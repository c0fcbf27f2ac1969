"""A planner that goes on with other tokenizers: what its ids mean is carried over.

Shapes: N cells of pictures, P code books of S entries, V embeddings, D hidden.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from emu_robot.data.mapped_images import ImageSource
from emu_robot.errors import InvalidValueError
from emu_robot.models.digits import split_digits
from emu_robot.models.transformer import CausalTransformer, embedding_rows
from emu_robot.planner.planner import Planner, PlannerConfig, vocabulary_sizes
from emu_robot.tokenizers.image import ImageTokenizer
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.training.clusters import move_to_means
from emu_robot.training.holdout import spread
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
    the mean of the nearest ones that are shown. Weights that only several digits a code need are left out or start
    untrained. An adaptation to parallel decoding is forgotten. Raises
    `InvalidValueError` for another grid of cells.
    """
    if images.config.grid != planner.images.config.grid:
        raise InvalidValueError(
            f"the image tokenizer to start with has {images.config.grid} cells a side, the planner's own "
            f"{planner.images.config.grid}: nothing can be carried over"
        )
    old, ids = planner.config, planner.interleaver.vocabulary
    sizes = vocabulary_sizes(text, images.config)
    new = replace(old, model=replace(old.model, **sizes), dida_path="")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for what the old model has no weights of
        model = CausalTransformer(new.model)
    state = model.state_dict()
    state |= {name: value for name, value in planner.model.state_dict().items() if name in state}
    some = pictures[spread(np.arange(len(pictures)), CARRIED_PICTURES)]
    before = embedding_rows(_codes(planner.images, some) + ids.first_code, old.model)
    after = split_digits(_codes(images, some), images.config.book_size, images.config.code_books)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        old_VD = state[name]
        meant_ND = old_VD[before].sum(1)
        control = old_VD[ids.text_size : ids.first_code]
        codes = _carried_codes(meant_ND, after, images.quantize.books())
        state[name] = torch.cat([carried_words(old_VD, planner.text, text), control, codes])
    model.load_state_dict(state)
    return model, new


def _codes(tokenizer: ImageTokenizer, pictures: np.ndarray) -> Tensor:
    """(N,) of every cell."""
    return torch.from_numpy(tokenizer.encode_images(pictures).astype(np.int64)).flatten()


def _carried_codes(meant_ND: Tensor, after_NP: Tensor, books_PSE: Tensor) -> Tensor:
    """(P S, D) embeddings whose sum over the digits of a cell comes near what the cell meant before."""
    left_ND, found = meant_ND.clone(), []
    for part, book_SE in enumerate(books_PSE):
        own_N = after_NP[:, part]
        means = left_ND.new_zeros(len(book_SE), left_ND.shape[1])
        shown = move_to_means(means, own_N, left_ND)
        near = torch.cdist(book_SE[~shown], book_SE[shown]).topk(min(NEIGHBOURS, int(shown.sum())), largest=False)
        means[~shown] = means[shown][near.indices].mean(1)
        left_ND -= means[own_N]
        found.append(means)
    return torch.cat(found)
