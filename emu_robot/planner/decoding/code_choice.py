"""Choose image codes from hidden states, digit by digit where a code has several. Ids in, ids out.

Shapes: ... places, D hidden, P books, S entries of a book.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from emu_robot.models.digits import join_digits
from emu_robot.models.transformer import CausalTransformer, embedding_rows
from emu_robot.tokenizers.vocabulary import Vocabulary


class CodeStates(NamedTuple):
    """What one branch of a decoding knows of codes to choose."""

    hidden: Tensor
    """(..., D) states that predict them."""
    references: Tensor
    """(...) ids at the same places of the image before, -1 for none."""


type Picker = Callable[[Sequence[Tensor], int], Tensor]
"""Logits (..., S) of each branch, and the number of the book -> the chosen digits (...)."""


def choose_codes(
    model: CausalTransformer, vocabulary: Vocabulary, branches: Sequence[CodeStates], pick: Picker
) -> Tensor:
    """(...) codes, chosen by `pick` from the logits of all branches; each digit from those chosen before it."""
    references = [embedding_rows(branch.references, model.config) for branch in branches]
    digits: list[Tensor] = []
    before = references[0][..., :0]
    for book in range(vocabulary.books):
        rows = vocabulary.book_rows(book)
        logits = [
            model.digit_logits(branch.hidden, rows, before, to_copy)
            for branch, to_copy in zip(branches, references, strict=True)
        ]
        digits.append(pick(logits, book))
        before = torch.cat([before, digits[-1][..., None] + rows.start], -1)
    return join_digits(torch.stack(digits, -1), vocabulary.book_size)
