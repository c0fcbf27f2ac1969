"""Recognise the kind of a dimension by its motion in a whole set. Suffixes: T frames of an episode."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from emu_robot.core import Floats32
from emu_robot.data.columns import Column
from emu_robot.robots.spec import DimensionKind

FOLLOWS, RATES = 0.9, 0.6
"""Least correlation for an action that is a target of a state; for one that is its change, which lags the command."""
LONGEST_LAG = 3
"""Frames within which a robot follows its command; lags below it are tried."""


def measured(column: Column, values: Sequence[Floats32]) -> Column:
    """A dimension of the state; a position unless its kind is known."""
    if column.kind is None:
        column = replace(column, kind=DimensionKind.position, why="it is measured")
    return turning(column, values)


def turning(column: Column, values: Sequence[Floats32]) -> Column:
    """The column with a full turn as `period` if it is an angle. Positions that jump by about a turn are angles."""
    if column.kind not in (None, DimensionKind.position, DimensionKind.angle):
        return column
    largest = max(float(np.abs(v).max()) for v in values)
    period = 2 * np.pi if largest <= 2 * np.pi + 0.1 else 360.0
    wraps = _wraps(values, period)
    if wraps and column.kind is not DimensionKind.angle:
        column = replace(column, kind=DimensionKind.angle, why="its jumps of a full turn")
    return replace(column, period=period, wraps=wraps) if column.kind is DimensionKind.angle else column


def _wraps(values: Sequence[Floats32], period: float) -> bool:
    """Whether the numbers stay within one turn, jump from one end of it to the other, and move little otherwise."""
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    steps = np.abs(np.concatenate([np.diff(v) for v in values]))
    jumps = steps > 0.75 * period
    n_values = len(np.unique(np.concatenate([np.unique(v) for v in values])))
    return (
        high - low <= period * 1.01 and n_values > 2 and bool(jumps.any() and steps[~jumps].max(initial=0) < period / 2)
    )


def moving(
    column: Column, measured: Column, states: Sequence[Floats32], actions: Sequence[Floats32], fps: float
) -> Column:
    """An action's kind by the motion of the state in its place: a target of the state, or its change."""
    turn = measured.period if measured.wraps else 0.0
    follows = _follows(np.concatenate(states), np.concatenate(actions), turn)
    changes = [_shorter(np.diff(state), turn) for state in states]
    rate, slope = max(_rate(changes, actions, lag) for lag in range(LONGEST_LAG))
    if rate >= RATES and rate > follows:
        is_speed = fps > 2 and abs(np.log(max(slope, 1e-9) / fps)) < 0.3
        kind = DimensionKind.velocity if is_speed else DimensionKind.delta
        return replace(column, kind=kind, why="the state changes by it")
    if follows >= FOLLOWS:
        kind = measured.kind if measured.kind is DimensionKind.angle else DimensionKind.position
        return replace(column, kind=kind, why="the state follows it")
    return column


def _follows(state: Floats32, action: Floats32, turn: float) -> float:
    """How closely the state equals the action, at most 1; both may go around a full turn."""
    if not turn:
        return correlation(state, action)
    off = _shorter(action - state, turn)
    return 1 - float(off.std() / max(np.unwrap(state, period=turn).std(), 1e-9))


def _rate(changes: Sequence[Floats32], actions: Sequence[Floats32], lag: int) -> tuple[float, float]:
    """Correlation of actions with the changes of the state `lag` frames later, and how many times larger they are."""
    later = np.concatenate([change[lag:] for change in changes])
    told = np.concatenate([a[: max(len(a) - 1 - lag, 0)] for a in actions])
    if not later.any() or not told.any():
        return 0.0, 0.0
    return correlation(later, told), float(told @ later / (later @ later))


def _shorter(way: Floats32, turn: float) -> Floats32:
    """The same way around, at most half a turn."""
    return (way + turn / 2) % turn - turn / 2 if turn else way


def correlation(a: Floats32, b: Floats32) -> float:
    """Correlation of two dimensions; 1 where neither changes."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float(len(a) < 2 or np.ptp(a) == np.ptp(b))
    return float(np.corrcoef(a, b)[0, 1])
