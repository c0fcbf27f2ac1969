"""The two-copy layout of DiDA training: a clean sequence, then a noisy copy of each image to predict.

A clean token sees all earlier clean tokens, never noise. A noisy token sees the clean tokens before its image and all
noisy tokens of the same image, in both directions, and never its own clean copy. A noisy copy [boi, image] has the
position ids of the clean one, and the output at a token predicts the next: the autoregressive head carries over.
Shapes: B batch, L clean sequence, J noisy images of each, T block [boi, image], S = L + J T.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emu_robot.training.planner_data import Ints


class TwoCopies(NamedTuple):
    """Sequences with copies of their images, still without noise."""

    ids: Ints
    """(B, S) ids."""
    positions: Ints
    """(B, S) position ids."""
    references: Ints
    """(B, S) ids at the same place of the image before."""
    present: NDArray[np.bool_]
    """(B, J) whether the copied image exists."""
    last: Ints
    """(B, S) last clean token that each token sees, for `copies_mask`."""
    copy: Ints
    """(S,) number of each token's copy, 0 for clean ones, for `copies_mask`."""


def two_copies(
    ids_BL: Ints, positions_BL: Ints, references_BL: Ints, boi: int, block: int, seen_BL: NDArray[np.bool_]
) -> TwoCopies:
    """Append to each sequence copies of the images to predict, `block` tokens each from the boi on.

    seen_BL: whether an id belongs to an image that was observed, as the first one, and is not to be predicted. A
    sequence with fewer images to predict than another gets copies of its first one, marked as not present.
    """
    batch, length = ids_BL.shape
    predicted_BL = (ids_BL == boi) & ~seen_BL
    n_images = max(int(predicted_BL.sum(1).max()), 1)
    begins_BJ = np.repeat((ids_BL == boi).argmax(1)[:, None], n_images, axis=1)
    present_BJ = np.zeros((batch, n_images), np.bool_)
    for row, predicted in enumerate(predicted_BL):
        found = np.flatnonzero(predicted)
        begins_BJ[row, : len(found)], present_BJ[row, : len(found)] = found, True
    copied = (begins_BJ[:, :, None] + np.arange(block)).reshape(batch, -1)
    ids, positions, references = (
        np.concatenate([array, np.take_along_axis(array, copied, 1)], 1)
        for array in (ids_BL, positions_BL, references_BL)
    )
    return TwoCopies(ids, positions, references, present_BJ, *visibility(length, begins_BJ, block))


def visibility(length: int, begins_BJ: Ints, block: int) -> tuple[Ints, Ints]:
    """The last clean token that each token sees (B, S), and the number of the copy it belongs to (S,), 0: clean."""
    batch, n_images = begins_BJ.shape
    clean_BL = np.broadcast_to(np.arange(length), (batch, length))
    last_BS = np.concatenate([clean_BL, np.repeat(begins_BJ - 1, block, axis=1)], axis=1)
    copy_S = np.concatenate([np.zeros(length, np.int64), np.repeat(np.arange(1, n_images + 1), block)])
    return last_BS, copy_S
