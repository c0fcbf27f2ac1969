"""The loss of a planner's sequences: words and control tokens as ids, image codes digit by digit.

Shapes: N targets, D hidden, P code books.
"""

from collections.abc import Sequence

from torch import Tensor

from emu_robot.models.transformer import CausalTransformer, embedding_rows
from emu_robot.training.losses import NearCodes, changed_codes, weighted_cross_entropy


def sequence_loss(
    model: CausalTransformer,
    hidden_ND: Tensor,
    targets_N: Tensor,
    references_N: Tensor,
    weights_N: Tensor,
    near: Sequence[NearCodes],
) -> Tensor:
    """Cross entropy of ids from the states that predict them, averaged with a weight for each.

    references: id at the same place of the image before, -1 for none. near: for each book, the codes that share a
    target where it differs from the image before. With several books the loss of a code is the sum over its digits,
    each predicted from those before it.
    """
    changed_N = changed_codes(targets_N, references_N, near[0])
    references_NP = embedding_rows(references_N, model.config)
    rows_NP = embedding_rows(targets_N, model.config)
    first, size = near[0].first_code, len(near[0].codes)
    logits = model.logits(hidden_ND, slice(0, first + size), references_NP[:, 0])
    total = weighted_cross_entropy(logits, rows_NP[:, 0], weights_N, changed_N, near[0])
    if len(near) == 1:
        return total
    is_code = targets_N >= first
    hidden, rows, references, weights = (x[is_code] for x in (hidden_ND, rows_NP, references_NP, weights_N))
    for book, nearest in enumerate(near[1:], 1):
        ids = slice(nearest.first_code, nearest.first_code + size)
        logits = model.digit_logits(hidden, ids, rows[:, :book], references)
        near_here = nearest._replace(first_code=0)
        error = weighted_cross_entropy(logits, rows[:, book] - ids.start, weights, changed_N[is_code], near_here)
        total = total + error * weights.sum() / weights_N.sum().clamp_min(1e-6)
    return total
