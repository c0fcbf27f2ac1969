import json

import numpy as np
import pytest

from emu_robot.errors import DataError, ShapeError, WeightsError
from emu_robot.models.normalize import SMALLEST_STD, NormStats, RelativeActions, Standardizer


def stats() -> NormStats:
    rng = np.random.default_rng(0)
    fit = [Standardizer.fit(rng.normal(size=(9, *shape)).astype(np.float32)) for shape in ((8,), (16, 8), (2, 8))]
    standards = {"state": fit[0], "actions": fit[1], "keyposes": fit[2]}
    low, high = rng.normal(size=(2, 8)).astype(np.float32)
    return NormStats(**standards, action_low=low, action_high=high, segment_steps_p90=95.0)


@pytest.mark.parametrize("seed", range(20))
def test_standardising_and_relative_actions_invert_exactly_enough(seed):
    rng = np.random.default_rng(seed)
    leading, horizon, dims = int(rng.integers(1, 5)), int(rng.integers(1, 20)), int(rng.integers(0, 9))
    actions = rng.normal(scale=10 ** rng.uniform(-2, 2), size=(leading, horizon, 8)).astype(np.float32)
    state = rng.normal(size=(leading, 8)).astype(np.float32)
    relative = RelativeActions(dims)
    offsets = relative.encode(actions, state)
    np.testing.assert_array_equal(offsets[..., dims:], actions[..., dims:])
    np.testing.assert_allclose(relative.decode(offsets, state), actions, rtol=1e-5, atol=1e-5)
    scale = Standardizer.fit(offsets)
    np.testing.assert_allclose(scale.unnormalize(scale.normalize(offsets)), offsets, rtol=1e-4, atol=1e-4)


def test_standardised_samples_have_zero_mean_and_unit_std_unless_constant():
    samples = np.stack([np.linspace(-3, 9, 50), np.full(50, 2.0)], axis=1).astype(np.float32)
    scale = Standardizer.fit(samples)
    out = scale.normalize(samples)
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(out.std(0), [1, 0], atol=1e-6)
    assert scale.std[1] == np.float32(SMALLEST_STD)


def test_bad_samples_and_shapes_are_refused():
    with pytest.raises(DataError, match="0 samples"):
        Standardizer.fit(np.zeros((0, 3), np.float32))
    with pytest.raises(DataError, match="finite"):
        Standardizer.fit(np.full((2, 3), np.nan, np.float32))
    with pytest.raises(ShapeError, match=r"\(7,\).*8"):
        stats().state.normalize(np.zeros(7, np.float32))


def test_stats_survive_json():
    again = NormStats.from_dict(json.loads(json.dumps(stats().to_dict())))
    np.testing.assert_array_equal(again.actions.mean, stats().actions.mean)
    assert again.to_dict() == stats().to_dict()


def test_missing_or_malformed_stats_are_named():
    with pytest.raises(WeightsError, match="state, actions, keyposes, action_low, action_high, segment_steps_p90"):
        NormStats.from_dict(None)
    lacking = stats().to_dict()
    del lacking["actions"]
    with pytest.raises(WeightsError, match="lack actions;"):
        NormStats.from_dict(lacking)
    broken = stats().to_dict() | {"state": {"mean": [0.0]}}
    with pytest.raises(WeightsError, match="malformed"):
        NormStats.from_dict(broken)
    zero = stats().to_dict() | {"state": {"mean": [0.0], "std": [0.0]}}
    with pytest.raises(WeightsError, match="positive"):
        NormStats.from_dict(zero)
