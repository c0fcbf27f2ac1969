"""Numbers at another rate: what each kind of dimension has to keep, for any numbers and any two rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu_robot.data.columns import Column
from emu_robot.data.resampling import frames_at, frames_before, resample
from emu_robot.robots.spec import DimensionKind

RATES = st.sampled_from(
    [(30.0, 60.0), (10.0, 20.0), (20.0, 10.0), (30.0, 20.0), (50.0, 15.0), (29.97, 20.0), (10.0, 7.0)]
)
SEEDS = st.integers(0, 2**31)


def column(kind: DimensionKind, *, whole: bool = False, period: float = 0.0) -> Column:
    return Column(feature="action", index=0, place=0, name="x", whole=whole, kind=kind, period=period)


def at_rate(values: np.ndarray, kind: DimensionKind, rates: tuple[float, float], measured: bool = False, **settings):
    """(frames (N,), values (N,)) of values (T,)."""
    frames = frames_at(len(values), *rates)
    given_values = values.astype(np.float32)[:, None]
    return frames, resample(frames, given_values, [column(kind, **settings)], measured=measured)[:, 0].astype(float)


@given(SEEDS, RATES, st.integers(2, 60))
def test_deltas_add_up_to_the_same_way(seed, rates, n):
    values = np.random.default_rng(seed).normal(size=n)
    frames, deltas = at_rate(values, DimensionKind.delta, rates)
    assert deltas.sum() == pytest.approx(values.sum(), abs=1e-4)
    way = np.concatenate([[0], np.cumsum(values)])
    reached = np.concatenate([[0], np.cumsum(deltas)])[:-1]
    assert np.allclose(reached, np.interp(frames, np.arange(n + 1), way), atol=1e-4), "on the same path all the time"


@given(SEEDS, RATES, st.integers(2, 60))
def test_whole_deltas_stay_whole_and_keep_their_sum(seed, rates, n):
    values = np.random.default_rng(seed).integers(-3, 4, n)
    _, deltas = at_rate(values, DimensionKind.delta, rates, whole=True)
    assert deltas.sum() == values.sum() and np.array_equal(deltas, deltas.round())


@given(SEEDS, RATES, st.integers(2, 60))
def test_velocities_lead_equally_far(seed, rates, n):
    values = np.random.default_rng(seed).normal(size=n)
    frames, speeds = at_rate(values, DimensionKind.velocity, rates)
    assert (speeds * np.diff(np.append(frames, n))).sum() == pytest.approx(values.sum(), abs=1e-3)
    _, measured = at_rate(values, DimensionKind.velocity, rates, measured=True)
    assert np.allclose(measured, np.interp(frames, np.arange(n), values), atol=1e-5), "a measured one is what it was"


@pytest.mark.parametrize(("period", "low"), [(2 * np.pi, -np.pi), (360.0, -180.0), (360.0, 0.0)])
@given(seed=SEEDS, rates=RATES)
def test_an_angle_goes_the_shorter_way_and_stays_within_its_turn(period, low, seed, rates):
    rng = np.random.default_rng(seed)
    unwrapped = np.cumsum(rng.uniform(0.0, 0.3, 40)) * period / (2 * np.pi)
    _, angles = at_rate((unwrapped - low) % period + low, DimensionKind.angle, rates, period=period)
    true = np.interp(frames_at(40, *rates), np.arange(40), unwrapped)
    off = (angles - true + period / 2) % period - period / 2
    assert np.abs(off).max() < 1e-3 * period
    assert low - 1e-3 <= angles.min() and angles.max() <= low + period + 1e-3


@pytest.mark.parametrize("kind", [DimensionKind.gripper, DimensionKind.discrete, DimensionKind.rotation])
@given(seed=SEEDS, rates=RATES)
def test_what_has_no_mean_is_only_what_it_was_before(kind, seed, rates):
    values = np.random.default_rng(seed).integers(0, 3, 30)
    frames, kept = at_rate(values, kind, rates)
    assert np.array_equal(kept, values[np.floor(frames + 1e-6).astype(int)])


@given(SEEDS, RATES)
def test_whole_positions_stay_whole(seed, rates):
    values = np.random.default_rng(seed).integers(0, 2, 30)
    assert set(at_rate(values, DimensionKind.position, rates, whole=True)[1]) <= {0.0, 1.0}


@given(SEEDS, RATES)
def test_positions_lie_on_the_line(seed, rates):
    values = np.random.default_rng(seed).normal(size=30)
    frames, between = at_rate(values, DimensionKind.position, rates)
    assert np.allclose(between, np.interp(frames, np.arange(30), values), atol=1e-5)


@pytest.mark.parametrize("kind", list(DimensionKind))
def test_at_the_same_rate_nothing_changes(kind):
    values = np.random.default_rng(0).normal(size=30).astype(np.float32)
    assert np.array_equal(at_rate(values, kind, (20.0, 20.0))[1], values)


def test_twice_the_rate_shows_every_picture_twice_and_none_before_its_time():
    shown = frames_before(frames_at(30, 30.0, 60.0))
    assert shown.tolist() == np.repeat(np.arange(30), 2).tolist()
    for rates in ((30.0, 20.0), (30.0, 90.0), (10.0, 30.0), (50.0, 15.0)):
        frames = frames_at(100, *rates)
        shown = frames_before(frames)
        assert (shown <= frames + 1e-5).all() and (frames - shown < 1 + 1e-5).all()
