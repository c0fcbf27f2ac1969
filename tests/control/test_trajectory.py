import numpy as np
import pytest

from emu_robot.control.trajectory import ChunkPlayer, MotionLimiter, TimedChunk
from emu_robot.errors import InvalidValueError, ShapeError
from emu_robot.robots.limits import MotionLimits


def limits(n: int = 2, reach: float = 1.0) -> MotionLimits:
    ones = np.ones(n)
    return MotionLimits(lower=-reach * ones, upper=reach * ones, velocity=2 * ones, acceleration=10 * ones)


def sine(start: float, n: int = 40, dt: float = 0.05) -> TimedChunk:
    times = start + dt * np.arange(n)
    return TimedChunk(start=start, dt=dt, actions=np.stack([np.sin(times), np.cos(times)], axis=1))


def test_a_chunk_passes_through_its_actions_in_the_middle_of_their_times():
    chunk = sine(3.0)
    for i in range(len(chunk.actions)):
        np.testing.assert_allclose(chunk.at(3.0 + 0.05 * (i + 0.5))[0], chunk.actions[i], atol=1e-9)
    assert np.array_equal(chunk.at(0.0)[0], chunk.actions[0]) and np.array_equal(chunk.at(99.0)[0], chunk.actions[-1])


def test_between_actions_it_is_smooth_and_its_velocity_is_the_slope():
    chunk, step = sine(0.0), 1e-6
    for time in np.linspace(0.11, 1.8, 50):
        slope = (chunk.at(time + step)[0] - chunk.at(time - step)[0]) / (2 * step)
        np.testing.assert_allclose(chunk.at(time)[1], slope, atol=1e-4)
        held = time - 0.025
        np.testing.assert_allclose(chunk.at(time)[0], [np.sin(held), np.cos(held)], atol=1e-3)


def test_a_single_action_is_a_place_to_stay():
    position, velocity = TimedChunk(start=0.0, dt=0.1, actions=np.array([[1.0, 2.0]])).at(0.0)
    assert position.tolist() == [1, 2] and velocity.tolist() == [0, 0]


@pytest.mark.parametrize(("dt", "shape"), [(0.0, (3, 2)), (0.1, (3,)), (0.1, (0, 2))])
def test_impossible_chunks_are_refused(dt: float, shape: tuple[int, ...]):
    with pytest.raises((InvalidValueError, ShapeError)):
        TimedChunk(start=0.0, dt=dt, actions=np.zeros(shape))


def test_a_new_chunk_is_faded_in_without_a_jump():
    player = ChunkPlayer(blend_s=0.1)
    player.play(TimedChunk(start=0.0, dt=0.1, actions=np.zeros((20, 1))), now=0.0)
    player.play(TimedChunk(start=0.5, dt=0.1, actions=np.ones((20, 1))), now=0.5)
    places = []
    for time in np.arange(0.5, 0.7, 0.001).tolist():
        found = player.target(time)
        assert found is not None
        places.append(found[0][0])
    assert places[0] == 0 and places[-1] == 1
    assert np.abs(np.diff(places)).max() < 0.011


def test_past_its_last_action_a_chunk_says_nothing():
    player = ChunkPlayer(blend_s=0.1)
    assert player.target(0.0) is None
    player.play(sine(0.0), now=0.0)
    assert player.target(1.99) is not None and player.target(2.01) is None
    player.play(sine(2.0), now=2.0)
    player.stop()
    assert player.target(2.1) is None


def test_commands_never_leave_their_limits_whatever_the_targets():
    rng = np.random.default_rng(0)
    for _ in range(60):
        reach, speed, pull = rng.uniform(0.5, 3, 4), rng.uniform(0.5, 3, 4), rng.uniform(2, 20, 4)
        bounds = MotionLimits(lower=-reach, upper=reach, velocity=speed, acceleration=pull)
        dt = float(rng.choice([0.02, 0.01, 0.005]))
        limiter = MotionLimiter(bounds, dt)
        target = rng.uniform(-5, 5, 4)
        for _ in range(300):
            if rng.random() < 0.05:
                target = rng.uniform(-5, 5, 4)
            before = limiter.velocity
            position = limiter.step(target, rng.normal(0, 3, 4))
            assert (np.abs(position) <= reach + 1e-9).all()
            assert (np.abs(limiter.velocity) <= speed + 1e-9).all()
            assert (np.abs(limiter.velocity - before) <= pull * dt + 1e-9).all()


def test_commands_at_any_time_never_leave_their_limits():
    rng = np.random.default_rng(0)
    for _ in range(60):
        reach, speed, pull = rng.uniform(0.5, 3, 4), rng.uniform(0.5, 3, 4), rng.uniform(2, 20, 4)
        bounds, dt = MotionLimits(lower=-reach, upper=reach, velocity=speed, acceleration=pull), 0.02
        limiter = MotionLimiter(bounds, dt)
        target = rng.uniform(-5, 5, 4)
        for _ in range(300):
            if rng.random() < 0.05:
                target = rng.uniform(-5, 5, 4)
            before, place = limiter.velocity, limiter.position
            elapsed = dt * float(rng.choice([0.0, 0.05, 0.25, 0.5, 0.99, 1.0, 1.1, 3.0]))
            if rng.random() < 0.2:
                position = limiter.brake(elapsed=elapsed)
                assert (np.abs(limiter.velocity) <= np.abs(before)).all() and (limiter.velocity * before >= 0).all()
            else:
                position = limiter.step(target, rng.normal(0, 3, 4), elapsed=elapsed)
            assert (np.abs(position) <= reach).all()
            assert (np.abs(limiter.velocity) <= speed + 1e-9).all()
            assert (np.abs(limiter.velocity - before) <= pull * min(elapsed, dt) + 1e-9).all()
            np.testing.assert_allclose(position - place, limiter.velocity * min(elapsed, dt), atol=1e-9)


def test_commands_at_any_time_follow_what_moves_as_others_do():
    limiter, dt, rng = MotionLimiter(limits(1, reach=3.0), 0.02), 0.02, np.random.default_rng(0)
    now, behind = 0.0, []
    for _ in range(600):
        elapsed = dt * float(rng.choice([0.25, 0.5, 1.0]))
        now += elapsed
        there = now + dt - elapsed  # where the last command ends
        place = limiter.step(np.array([np.sin(there)]), np.array([np.cos(there)]), elapsed=elapsed)
        behind.append(abs(place[0] - np.sin(now + dt)))
    assert max(behind[200:]) < 1e-3


def test_braking_comes_to_rest_and_stays():
    limiter = MotionLimiter(limits(), 0.02)
    for _ in range(10):
        limiter.step(np.array([1.0, -1.0]))
    places = [limiter.brake() for _ in range(50)]
    assert limiter.at_rest and (np.diff(places, axis=0)[:, 0] >= 0).all() and (np.diff(places, axis=0)[:, 1] <= 0).all()
    assert (places[-1] == places[-10]).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_targets_that_are_not_finite_change_nothing(wrong: float):
    limiter = MotionLimiter(limits(), 0.02)
    limiter.step(np.array([0.5, 0.5]))
    place, speed = limiter.position, limiter.velocity
    for target, velocity in (([wrong, 0.0], 0.0), ([0.0, 0.0], wrong)):
        with pytest.raises(InvalidValueError, match="not finite"):
            limiter.step(np.array(target), velocity)
    assert limiter.position is place and limiter.velocity is speed


def test_it_arrives_at_a_target_at_rest_and_does_not_overshoot():
    limiter = MotionLimiter(limits(), 0.02)
    places = np.array([limiter.step(np.array([0.7, -0.3])) for _ in range(100)])
    np.testing.assert_allclose(places[-1], [0.7, -0.3], atol=1e-9)
    assert (places[:, 0] <= 0.7 + 1e-9).all() and (places[:, 1] >= -0.3 - 1e-9).all()


def test_it_follows_what_moves_within_the_limits():
    limiter, dt = MotionLimiter(limits(1, reach=3.0), 0.02), 0.02
    behind = []
    for t in dt * np.arange(400):
        place = limiter.step(np.array([np.sin(t)]), np.array([np.cos(t)]))
        behind.append(abs(place[0] - np.sin(t + dt)))
    assert max(behind[100:]) < 1e-3


def test_it_begins_at_the_nearest_limit():
    limiter = MotionLimiter(limits(1), 0.02)
    limiter.reset(np.array([1.2]))
    assert limiter.position[0] == 1.0 and limiter.at_rest


def test_impossible_limits_are_refused():
    good = vars(limits())
    for name, value in (("lower", np.ones(2)), ("velocity", np.zeros(2)), ("acceleration", np.full(2, np.nan))):
        with pytest.raises(InvalidValueError):
            MotionLimits(**{**good, name: value})
    with pytest.raises(ShapeError):
        MotionLimits(**{**good, "upper": np.ones(3)})
    with pytest.raises(InvalidValueError):
        MotionLimiter(limits(), 0.02).reset(np.array([np.nan, 0.0]))
