"""What the numbers of a set are measured by: ranges, kinds, and which action is the target of which state.

Suffixes: T frames, S dimensions of the state, A of the action.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats32
from emu_robot.data.dimension_motion import FOLLOWS, correlation
from emu_robot.robots.spec import DimensionKind

TARGETS = (DimensionKind.position, DimensionKind.angle)
OF_FULL_SCALE = 0.2
"""A dimension that hardly moves in a set is measured by this share of the largest range beside it."""


@dataclass(frozen=True, kw_only=True)
class SetScale:
    """Ranges and kinds of a set's dimensions."""

    state_names: Sequence[str]
    """(S,) names."""
    action_names: Sequence[str]
    """(A,) names."""
    state_range: Floats32
    """(S,) from the 1st to the 99th percentile; infinite for a constant, and for an angle that goes around."""
    action_range: Floats32
    """(A,) the same of the action."""
    low: Floats32
    """(A,) least action."""
    high: Floats32
    """(A,) greatest action."""
    fastest: Floats32
    """(S,) 99th percentile of the motion within one frame."""
    pairs: Sequence[int]
    """Places of the arm's actions that are targets of the state in the same place."""
    rates: NDArray[np.bool_]
    """(A,) deltas, velocities, and arm actions of unknown kind."""
    targets: NDArray[np.bool_]
    """(A,) the arm's positions and angles."""

    @classmethod
    def of(
        cls,
        states: Sequence[Floats32],
        actions: Sequence[Floats32],
        names: tuple[Sequence[str], Sequence[str]],
        kinds: tuple[Sequence[DimensionKind | None], Sequence[DimensionKind | None]],
        goes_around: tuple[Sequence[bool], Sequence[bool]],
    ) -> "SetScale":
        """The scale of these episodes, (T, S) and (T, A) each; names, kinds and goes_around of state and action."""
        state, action = np.concatenate(states), np.concatenate(actions)
        state_range, action_range = (_ranges(v, a) for v, a in zip((state, action), goes_around, strict=True))
        steps = np.abs(np.concatenate([np.diff(one, axis=0) for one in states]))
        pairs = [
            i
            for i in range(min(state.shape[1], action.shape[1]))
            if kinds[0][i] in TARGETS and kinds[1][i] in TARGETS
            if np.isfinite(state_range[i]) and np.isfinite(action_range[i])
            if correlation(state[:, i], action[:, i]) >= FOLLOWS
        ]
        return cls(
            state_names=names[0],
            action_names=names[1],
            state_range=state_range,
            action_range=action_range,
            low=action.min(0),
            high=action.max(0),
            fastest=np.percentile(steps if len(steps) else state * 0, 99, axis=0).astype(np.float32),
            pairs=pairs,
            rates=np.array([kind is None or kind.is_rate for kind in kinds[1]], np.bool_),
            targets=np.array([kind in TARGETS for kind in kinds[1]], np.bool_) & np.isfinite(action_range),
        )

    @property
    def pair_range(self) -> Floats32:
        """(P,) range of the states in `pairs`, of those that hardly move a share of the largest."""
        own = self.state_range[list(self.pairs)]
        return np.maximum(own, OF_FULL_SCALE * own.max(initial=0))


def moved(values: Floats32, ranges: Floats32) -> float:
    """Largest motion of any dimension (T, D) as a share of its range; 0 without frames."""
    return float((np.ptp(values, axis=0) / ranges).max(initial=0)) if len(values) else 0.0


def _ranges(values: Floats32, goes_around: Sequence[bool]) -> Floats32:
    low, high = np.percentile(values, (1, 99), axis=0)
    ranges = (high - low).astype(np.float32)
    ranges = np.where(ranges > 0, ranges, np.ptp(values, axis=0))  # a switch that is seldom used
    return np.where((ranges > 1e-6) & ~np.array(goes_around, np.bool_), ranges, np.inf).astype(np.float32)
