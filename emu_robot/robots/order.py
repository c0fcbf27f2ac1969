"""Permutes dimensions between the order of a dataset or robot (theirs) and ours, in which grippers come last.

An order holds, for each of our dimensions, its index in theirs; an empty order changes nothing. It uses indices and not
names, because two dimensions may have the same name.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu_robot.errors import InvalidValueError


def order_of(places: Sequence[int]) -> tuple[int, ...]:
    """The order of dimensions at these indices; empty if it changes nothing."""
    return () if list(places) == list(range(len(places))) else tuple(places)


def to_ours[Scalar: np.generic](values: NDArray[Scalar], order: Sequence[int]) -> NDArray[Scalar]:
    """Permute (..., theirs) to (..., ours). Raises `InvalidValueError` if there are too few dimensions."""
    if len(order) and values.shape[-1] <= max(order):
        raise InvalidValueError(f"{values.shape[-1]} dimensions, but the weights look at number {max(order) + 1}")
    return values[..., list(order)] if len(order) else values


def to_theirs[Scalar: np.generic](values: NDArray[Scalar], order: Sequence[int]) -> NDArray[Scalar]:
    """Permute (..., ours) to (..., theirs), the inverse of `to_ours`. Raises the errors of `check_whole`."""
    check_whole(order)
    if not len(order):
        return values
    theirs: NDArray[Any] = np.empty_like(values)
    theirs[..., list(order)] = values
    return theirs


def check_whole(order: Sequence[int]) -> None:
    """Raise `InvalidValueError` if the order leaves out some of their dimensions: their values would be unknown."""
    missing = sorted(set(range(max(order, default=-1) + 1)) - set(order))
    if missing or len(set(order)) != len(order):
        raise InvalidValueError(f"the order {list(order)} leaves out {missing} of their dimensions or repeats one")
