"""Keyframes in motion: each method on motion made for it, and on the tabletop's experts against the truth."""

import numpy as np
import pytest

from emu_robot.data.keyframes import KeyframeConfig, KeyframeFinder, KeyframeMethod
from emu_robot.errors import ConfigError, DataError, InvalidValueError
from emu_robot.evaluation.keyframe_quality import KeyframeQualityConfig, compare_keyframes, keyframe_quality

FPS = 20


def there_and_back(n: int, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """(T, 3) two joints that leave rest n times, the gripper shut on the way; and the frames at which they are back."""
    rng = np.random.default_rng(seed)
    arms, grippers, backs, t = [], [], [], 0
    for _ in range(n):
        away = np.sin(np.linspace(0, np.pi, 40))[:, None] * rng.uniform(0.5, 1, 2)
        arms += [away, np.zeros((6, 2))]
        grippers += [np.r_[np.zeros(15), np.ones(15), np.zeros(16)]]
        t += 46
        backs.append(t - 6)
    arm = np.concatenate(arms) + rng.normal(scale=1e-3, size=(t, 2))
    return np.column_stack([arm, np.concatenate(grippers)]).astype(np.float32), backs


def finder(states, grippers=(2,), **settings) -> KeyframeFinder:
    return KeyframeFinder(states, grippers, FPS, KeyframeConfig(**settings))


def test_a_set_that_comes_home_is_cut_where_it_rests():
    episodes = [there_and_back(1 + seed % 3, seed) for seed in range(9)]
    found = finder([state for state, _ in episodes])
    assert found.method is KeyframeMethod.rest
    for state, backs in episodes:
        assert np.abs(found.find(state) - np.array(backs)).max() <= 6


def test_a_set_that_never_comes_home_is_cut_where_the_gripper_moves():
    rng = np.random.default_rng(0)
    states = []
    for _ in range(5):
        arm = np.linspace(0, 1, 120)[:, None] * rng.uniform(1, 2, 2) + rng.uniform(-9, 9, 2)
        states.append(np.column_stack([arm, np.repeat([0.0, 100.0, 0.0], 40)]).astype(np.float32))
    found = finder(states)
    assert found.method is KeyframeMethod.gripper
    assert found.find(states[0])[-1] == 119
    assert [40 <= t < 56 for t in found.find(states[0])[:1]] == [True]


def test_without_a_gripper_pauses_and_without_these_bends_are_taken():
    steps = np.r_[np.ones(30), np.zeros(20), np.ones(30)]
    pausing = [(np.cumsum(steps)[:, None] * 0.1 + seed).astype(np.float32) * [1, 2] for seed in range(4)]
    found = finder(pausing, grippers=())
    assert found.method is KeyframeMethod.pause
    assert 29 <= found.find(pausing[0])[0] <= 50 and len(found.find(pausing[0])) == 2
    corner = np.concatenate([np.linspace([0, 0], [1, 0], 40), np.linspace([1, 0], [1, 1], 40)])
    bending = [(corner + np.array([0, seed])).astype(np.float32) for seed in range(4)]
    found = finder(bending, grippers=(), waypoint_error=0.1)
    assert found.method is KeyframeMethod.waypoint
    assert found.find(bending[0]).tolist() == [40, 79] or found.find(bending[0]).tolist() == [39, 79]


def test_keyframes_keep_their_distance_and_end_with_the_episode():
    state, _ = there_and_back(3)
    found = finder([state], method=KeyframeMethod.gripper, min_seconds=1.0).find(state)
    assert (np.diff(found) >= FPS).all() and found[-1] >= len(state) - FPS
    assert found.dtype == np.int32 and (np.diff(found) > 0).all()


def test_what_cannot_be_found_is_said():
    still = np.ones((30, 3), np.float32)
    with pytest.raises(DataError, match="no state dimension ever changes"):
        finder([still])
    with pytest.raises(ConfigError, match="no state dimension is a gripper"):
        finder([there_and_back(1)[0]], grippers=(), method=KeyframeMethod.gripper)
    with pytest.raises(InvalidValueError, match="rest_radius is 0"):
        KeyframeConfig(rest_radius=0)


def resting(seed: int, n: int = 3, rest: int = 70, noise: float = 1e-4) -> tuple[np.ndarray, list[int], list[int]]:
    """(T, 3) like `there_and_back` with long rests in between and at the end; frames of arrival and of setting out."""
    rng = np.random.default_rng(seed)
    parts, arrivals, departures, t = [], [], [], 0
    for _ in range(n):
        departures.append(t)
        away = (1 - np.abs(np.linspace(-1, 1, 41)))[:, None] * rng.uniform(0.5, 1, 2)  # it does not stop to turn
        parts += [away, np.zeros((rest, 2))]
        arrivals.append(t + 40)
        t += 41 + rest
    arm = np.concatenate(parts) + rng.normal(scale=noise, size=(t, 2))
    gripper = np.concatenate([np.r_[np.zeros(15), np.ones(15), np.zeros(11 + rest)]] * n)
    return np.column_stack([arm, gripper]).astype(np.float32), arrivals, departures


@pytest.mark.parametrize("noise", [0.0, 1e-4, 2e-3])
@pytest.mark.parametrize("method", [KeyframeMethod.auto, KeyframeMethod.pause])
def test_long_rests_make_no_keyframe_late_and_belong_to_no_subtask(noise, method):
    episodes = [resting(seed, noise=noise) for seed in range(6)]
    found = finder([state for state, *_ in episodes], method=method)
    for state, arrivals, departures in episodes:
        keyframes, starts = found.cut(state)
        assert len(keyframes) == len(arrivals), "the rest at the end is no subtask of its own"
        assert np.abs(keyframes - arrivals).max() <= 3, "3 of 20 frames per second"
        assert np.abs(starts - departures).max() <= 6 and starts[0] == 0
        assert (starts[1:] > keyframes[:-1]).all() and (keyframes >= starts).all()


def test_found_ones_match_true_ones_only_once():
    state, _ = there_and_back(2)
    found = finder([state])
    keyframes = found.find(state)
    true = np.array([keyframes[0], keyframes[0] + 3, 999], np.int32)
    matches = compare_keyframes([keyframes], [true], tolerance=5)
    assert (matches.precision.successes, matches.precision.n) == (1, 2)
    assert (matches.recall.successes, matches.recall.n) == (1, 3) and matches.offsets == [0]


def test_experts_keyframes_are_found_in_their_motion(tmp_path, capsys):
    from emu_robot.data.collect import CollectConfig, collect

    families = ("pick_place", "push", "open_drawer", "sort", "tower")
    plain = {"workers": 1, "image_every": 1000, "lerobot": False}
    buffer = collect(CollectConfig(families=families, n=10, seed=5_000_000, out=tmp_path / "data", **plain))
    matches = keyframe_quality(KeyframeQualityConfig(buffer=buffer, out=tmp_path))
    assert matches.precision.rate >= 0.9 and matches.recall.rate >= 0.9
    assert "method: rest" in capsys.readouterr().out and (tmp_path / "keyframe_quality.json").exists()
