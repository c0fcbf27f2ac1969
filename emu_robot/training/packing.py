"""Packs several sequences into one row to avoid padding. Each sequence sees only itself.

Shapes: B rows, L their length.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats32
from emu_robot.errors import InvalidValueError


class Packed(NamedTuple):
    """Sequences in rows."""

    ids: NDArray[np.int64]
    """(B, L) ids."""
    positions: NDArray[np.int64]
    """(B, L) position ids."""
    weights: Floats32
    """(B, L) weight of each id as a target."""
    segments: NDArray[np.int64]
    """(B, L) number of the token's sequence in its row, from 0; -1 for padding."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(B, 1, L, L) True where a token may attend: to itself and to earlier tokens of its sequence."""
        length = self.ids.shape[1]
        same = self.segments[:, :, None] == self.segments[:, None, :]
        return (same & np.tri(length, dtype=bool))[:, None]


def pack(sequences: Sequence[tuple[Sequence[int], Sequence[float]]], length: int, pad: int) -> Packed:
    """Put (ids, weights) sequences into rows of `length`, the longest first, each into the first row with space.

    The first id of a sequence is no target, because no token predicts it. Raises `InvalidValueError` for one that is
    longer than a row.
    """
    longest = max(len(ids) for ids, _weights in sequences)
    if longest > length:
        raise InvalidValueError(f"a sequence has {longest} ids, rows have {length}; make them longer")
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(sequences)), key=lambda i: -len(sequences[i][0])):
        size = len(sequences[i][0])
        row = next((r for r, left in enumerate(room) if left >= size), None)
        if row is None:
            rows.append([])
            room.append(length)
            row = len(rows) - 1
        rows[row].append(i)
        room[row] -= size
    shape = (len(rows), length)
    packed = Packed(
        np.full(shape, pad, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.float32), np.full(shape, -1)
    )
    for r, members in enumerate(rows):
        begin = 0
        for segment, i in enumerate(members):
            ids, weights = sequences[i]
            place = slice(begin, begin + len(ids))
            packed.ids[r, place], packed.positions[r, place] = ids, np.arange(len(ids))
            packed.weights[r, place], packed.segments[r, place] = weights, segment
            packed.weights[r, begin] = 0
            begin = place.stop
    return packed
