"""Resample numbers to another rate, each dimension by its kind. Suffixes: T frames, N frames of the result."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats32
from emu_robot.data.columns import Column
from emu_robot.robots.spec import DimensionKind

type Doubles = NDArray[np.float64]

NEAR = 1e-6
"""Share of a frame within which a time counts as the next frame's."""


def frames_at(n_frames: int, fps: float, hz: float) -> Doubles:
    """(N,) fractional frames at which an episode of `n_frames` at `fps` is sampled for the rate `hz`."""
    return np.arange(0, n_frames - min(1.0, fps / hz) / 2, fps / hz, dtype=np.float64)


def frames_before(frame_N: Doubles) -> NDArray[np.int64]:
    """(N,) the last whole frame at or before each."""
    return np.floor(frame_N + NEAR).astype(np.int64)


def resample(frame_N: Doubles, values: Floats32, columns: Sequence[Column], *, measured: bool = False) -> Floats32:
    """Values (T, D) of these dimensions, resampled to (N, D). measured: they are states, not actions.

    Positions are interpolated, angles the shorter way around. Deltas are summed until the next sample, so their total
    stays. Commanded velocities are averaged until then, measured ones interpolated. All others keep the last value.
    Whole numbers stay whole.
    """
    if len(frame_N) == len(values) and np.array_equal(frame_N, np.arange(len(values))):
        return values
    resampled = [_one(frame_N, values[:, i].astype(np.float64), column, measured) for i, column in enumerate(columns)]
    return np.stack(resampled, 1).astype(np.float32)


def _one(frame_N: Doubles, values: Doubles, column: Column, measured: bool) -> Doubles:
    before = frames_before(frame_N)
    match column.kind:
        case DimensionKind.delta:
            return np.diff(_sums(frame_N, values, whole=column.whole))
        case DimensionKind.gripper | DimensionKind.discrete | DimensionKind.rotation:
            return values[before]
        case _ if column.whole:
            return values[before]
        case DimensionKind.velocity if not measured:
            return np.diff(_sums(frame_N, values)) / np.diff(_borders(frame_N, len(values)))
        case _:
            after = np.minimum(before + 1, len(values) - 1)
            share = np.maximum(frame_N - before, 0.0)
            return _between(values[before], values[after], share, column.period)


def _between(a: Doubles, b: Doubles, share: Doubles, period: float) -> Doubles:
    """Interpolate from a to b; with a period the shorter way, within their turn."""
    straight = a + share * (b - a)
    if not period:
        return straight
    around = np.abs(b - a) > period / 2
    low = 0.0 if min(a.min(), b.min()) >= 0 else -period / 2
    way = a + share * ((b - a + period / 2) % period - period / 2)
    return np.where(around, (way - low) % period + low, straight)


def _borders(frame_N: Doubles, n_frames: int) -> Doubles:
    """(N + 1,) begin of each sample and end of the last one."""
    return np.append(frame_N, n_frames)


def _sums(frame_N: Doubles, values: Doubles, *, whole: bool = False) -> Doubles:
    """(N + 1,) sum of the values before each border."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    sums = np.interp(_borders(frame_N, len(values)), np.arange(len(total)), total)
    return np.round(sums) if whole else sums
