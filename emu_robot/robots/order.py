"""The order of dimensions: that of a set or robot, and ours, in which grippers come last. The one place that permutes.

An order holds, for each of our dimensions, its place in theirs; an empty one moves nothing. It goes by places and never
by names, as two dimensions may be called the same.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu_robot.errors import InvalidValueError


def order_of(places: Sequence[int]) -> tuple[int, ...]:
    """The order of dimensions that stand at these places; empty if it moves nothing."""
    return () if list(places) == list(range(len(places))) else tuple(places)


def to_ours[Scalar: np.generic](values: NDArray[Scalar], order: Sequence[int]) -> NDArray[Scalar]:
    """(..., theirs) -> (..., ours). Raises `InvalidValueError` if there are too few dimensions."""
    if len(order) and values.shape[-1] <= max(order):
        raise InvalidValueError(f"{values.shape[-1]} dimensions, but the weights look at number {max(order) + 1}")
    return values[..., list(order)] if len(order) else values


def to_theirs[Scalar: np.generic](values: NDArray[Scalar], order: Sequence[int]) -> NDArray[Scalar]:
    """(..., ours) -> (..., theirs), the inverse of `to_ours`. Raises what `check_whole` raises."""
    check_whole(order)
    if not len(order):
        return values
    theirs: NDArray[Any] = np.empty_like(values)
    theirs[..., list(order)] = values
    return theirs


def check_whole(order: Sequence[int]) -> None:
    """Raise `InvalidValueError` if the order leaves out some of their dimensions: nothing is known to send there."""
    missing = sorted(set(range(max(order, default=-1) + 1)) - set(order))
    if missing or len(set(order)) != len(order):
        raise InvalidValueError(f"the order {list(order)} leaves out {missing} of their dimensions or repeats one")
