"""A planner that goes on with other tokenizers: what its ids mean is carried over.

Shapes: N cells of pictures, P code books of S entries, V embeddings, D hidden.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from emu_robot.data.mapped_images import ImageSource
from emu_robot.errors import InvalidValueError
from emu_robot.models.transformer import CausalTransformer
from emu_robot.planner.planner import Planner, PlannerConfig, vocabulary_sizes
from emu_robot.tokenizers.image import ImageTokenizer
from emu_robot.tokenizers.quantizer import split_digits
from emu_robot.tokenizers.text import TextTokenizer
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
    sizes = vocabulary_sizes(text, images.config)
    new = replace(old, model=replace(old.model, **sizes), dida_path="")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for what the old model has no weights of
        model = CausalTransformer(new.model)
    state = model.state_dict() | planner.model.state_dict()
    some = pictures[np.linspace(0, len(pictures) - 1, min(len(pictures), CARRIED_PICTURES)).astype(int)]
    before, after = _cells(planner.images, some), _cells(images, some)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        old_VD = state[name]
        meant_ND = old_VD[ids.first_code + before].sum(1)
        control = old_VD[ids.text_size : ids.first_code]
        codes = _codes(meant_ND, after, images.quantize.books())
        state[name] = torch.cat([carried_words(old_VD, planner.text, text), control, codes])
    model.load_state_dict(state)
    return model, new


def _cells(tokenizer: ImageTokenizer, pictures: np.ndarray) -> Tensor:
    """(N, P) the entry of the codebooks, which follow one another, for each digit of every cell."""
    codes = torch.from_numpy(tokenizer.encode_images(pictures).astype(np.int64)).flatten()
    size, books = tokenizer.config.book_size, tokenizer.config.code_books
    return split_digits(codes, size, books) + size * torch.arange(books)


def _codes(meant_ND: Tensor, after_NP: Tensor, books_PSE: Tensor) -> Tensor:
    """(P S, D) embeddings whose sum over the digits of a cell comes near what the cell meant before."""
    left_ND, found = meant_ND.clone(), []
    for part, book_SE in enumerate(books_PSE):
        own_N = after_NP[:, part] - part * len(book_SE)
        total = left_ND.new_zeros(len(book_SE), left_ND.shape[1]).index_add_(0, own_N, left_ND)
        count = torch.bincount(own_N, minlength=len(book_SE))
        shown = count > 0
        total[shown] /= count[shown, None]
        near = torch.cdist(book_SE[~shown], book_SE[shown]).topk(min(NEIGHBOURS, int(shown.sum())), largest=False)
        total[~shown] = total[shown][near.indices].mean(1)
        left_ND -= total[own_N]
        found.append(total)
    return torch.cat(found)
