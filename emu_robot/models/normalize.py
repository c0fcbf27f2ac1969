"""Physical units <-> numbers of the action head. Every pair is exactly inverse; numpy only.

Actions become relative to the state that they start from, and are scaled by statistics saved with the weights.
Suffixes: ... any leading axes, T chunk, A action, S state.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from emu_robot.core import Floats32
from emu_robot.errors import DataError, ShapeError, WeightsError
from emu_robot.shared.typed import first_line

MOST_STEPS = 1e6
"""Longest subtask that statistics may tell [control ticks]."""
SMALLEST_STD = 1e-2
"""Least standard deviation [rad or gripper opening], so that a joint that hardly moves is not amplified."""


@dataclass(frozen=True)
class Standardizer:
    """x -> (x - mean) / std over the trailing axes of `mean`."""

    mean: Floats32
    std: Floats32

    @classmethod
    def fit(cls, samples: Floats32) -> Self:
        """Statistics over the first axis of samples (N, ...). Raises `DataError` without samples."""
        if len(samples) == 0 or not np.isfinite(samples).all():
            raise DataError(f"cannot fit statistics to {len(samples)} samples: need finite ones, at least one")
        std = samples.std(axis=0, dtype=np.float64)
        mean = samples.mean(axis=0, dtype=np.float64)
        return cls(mean.astype(np.float32), np.maximum(std, SMALLEST_STD).astype(np.float32))

    def normalize(self, values: Floats32) -> Floats32:
        """(..., *mean.shape) physical -> standardised. Raises `ShapeError`."""
        self._check(values)
        return ((values - self.mean) / self.std).astype(np.float32)

    def unnormalize(self, values: Floats32) -> Floats32:
        """The inverse of `normalize`."""
        self._check(values)
        return (values * self.std + self.mean).astype(np.float32)

    def _check(self, values: Floats32) -> None:
        trailing = values.shape[values.ndim - self.mean.ndim :]
        if values.ndim < self.mean.ndim or trailing != self.mean.shape:
            raise ShapeError("values to normalise", values.shape, f"(..., {', '.join(map(str, self.mean.shape))})")


@dataclass(frozen=True)
class RelativeActions:
    """The first `dims` action dimensions as offsets from the same dimensions of the state; the others stay absolute."""

    dims: int

    def encode(self, actions: Floats32, state: Floats32) -> Floats32:
        """Targets (..., T, A) and the state (..., S) that they start from -> offsets (..., T, A)."""
        return self._shift(actions, -state[..., None, : self.dims])

    def decode(self, actions: Floats32, state: Floats32) -> Floats32:
        """The inverse of `encode`."""
        return self._shift(actions, state[..., None, : self.dims])

    def _shift(self, actions: Floats32, by: Floats32) -> Floats32:
        shifted = actions.astype(np.float32, copy=True)
        shifted[..., : self.dims] += by
        return shifted


@dataclass(frozen=True, kw_only=True)
class NormStats:
    """Statistics of the training data that acting needs; stored in the manifest of the weights."""

    state: Standardizer
    """Statistics (S,) of the state."""
    actions: Standardizer
    """Statistics (T, A) of relative actions."""
    keyposes: Standardizer
    """Statistics (P, S) of keyposes relative to the present state."""
    action_low: Floats32
    """(A,) lowest demonstrated action, in physical units."""
    action_high: Floats32
    """(A,) highest demonstrated action, in physical units."""
    segment_steps_p90: float
    """90th percentile of the length of a subtask [control ticks]."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `from_dict` reverses it exactly."""
        as_list = {name: {k: v.tolist() for k, v in asdict(getattr(self, name)).items()} for name in _STANDARDIZED}
        ranges = {name: getattr(self, name).tolist() for name in _RANGES}
        return {**as_list, **ranges, "segment_steps_p90": self.segment_steps_p90}

    @classmethod
    def from_dict(cls, stats: Mapping[str, Any] | None) -> Self:
        """From JSON values. Raises `WeightsError` naming the missing or malformed value; there is no default."""
        stats = stats if isinstance(stats, Mapping) else {}
        missing = [name for name in (*_STANDARDIZED, *_RANGES, "segment_steps_p90") if name not in stats]
        if missing:
            raise WeightsError(f"norm_stats lack {', '.join(missing)}; the head cannot act without them")
        try:
            read: Any = {
                name: Standardizer(*(_numbers(stats[name][key]) for key in ("mean", "std"))) for name in _STANDARDIZED
            }
            ranges: Any = {name: _numbers(stats[name]) for name in _RANGES}
            p90 = float(_numbers(stats["segment_steps_p90"]))
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise WeightsError(f"norm_stats are malformed: {first_line(error)}") from error
        fits = all(s.mean.shape == s.std.shape and (s.std > 0).all() for s in read.values())
        if not fits or not 0 < p90 <= MOST_STEPS:
            raise WeightsError("norm_stats are malformed: need matching shapes, positive scales and a length in ticks")
        return cls(**read, **ranges, segment_steps_p90=p90)

    def check_fit(self, n_states: int, chunk: tuple[int, int], keyposes: int) -> None:
        """Raise `WeightsError` unless these are statistics of `n_states` states, chunks (T, A) and so many keyposes."""
        for name, shape, wanted in (
            ("state", self.state.mean.shape, (n_states,)),
            ("actions", self.actions.mean.shape, chunk),
            ("keyposes", self.keyposes.mean.shape, (keyposes, n_states)),
            ("action_low", self.action_low.shape, chunk[1:]),
            ("action_high", self.action_high.shape, chunk[1:]),
        ):
            if shape != wanted:
                raise WeightsError(f"norm_stats do not fit the head: {name} is {shape}, not {wanted}")


def _numbers(value: Any) -> Floats32:
    with np.errstate(over="raise"):
        numbers = np.asarray(np.asarray(value, np.float64), np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError("numbers that are not finite")
    return numbers


_STANDARDIZED = ("state", "actions", "keyposes")
_RANGES = ("action_low", "action_high")
