"""Several sequences in one row, so that no place is padding; each sees only itself.

Shapes: B rows, L their length.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats32
from emu_robot.errors import InvalidValueError


class Packed(NamedTuple):
    """ids, positions (B, L) int64; weights (B, L) float32 of each id as a target; segments (B, L): which sequence of
    its row a token belongs to, from 0; -1 for padding."""

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    weights: Floats32
    segments: NDArray[np.int64]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(B, 1, L, L) True where a token may attend: to itself and what precedes it in its own sequence."""
        length = self.ids.shape[1]
        same = self.segments[:, :, None] == self.segments[:, None, :]
        return (same & np.tri(length, dtype=bool))[:, None]


def pack(sequences: Sequence[tuple[Sequence[int], Sequence[float]]], length: int, pad: int) -> Packed:
    """Put (ids, weights) sequences into rows of `length`, the longest first, each where it still fits (first fit).

    A sequence's first id is no target: nothing before it belongs to it. Raises `InvalidValueError` for one that is
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
