"""From noise to an image and back: every path has the right ends, and its steps arrive."""

import itertools
import math

import pytest
import torch

from emu_robot.errors import InvalidValueError
from emu_robot.planner.decoding.noise_paths import PathName, make_noise_path, sample_times, shifted_times

K, N = 64, 400


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(
    params=[(name, books) for name in PathName for books in (1, 2)], ids=lambda param: f"{param[0]}-{param[1]}"
)
def path(request):
    """Paths over K codes, of one book or of two digits."""
    name, books = request.param
    return make_noise_path(name, torch.randn(books, round(K ** (1 / books)), 8, generator=generator()))


def test_times_run_from_noise_to_image() -> None:
    times = shifted_times(5)
    assert times[0] == 0 and times[-1] == 1 and times == sorted(times)
    assert len(times) == 6
    drawn = sample_times(1000, generator())
    assert drawn.min() >= 0 and drawn.max() < 1
    assert drawn.mean() < 0.4  # a shift of 3 dwells where there is much noise


def test_corruption_is_noise_at_0_and_the_image_at_1(path) -> None:
    codes = torch.randint(K, (2, N), generator=generator(1))
    share = [
        float((path.corrupt(codes, torch.full((2,), time), generator()) == codes).float().mean())
        for time in (0.0, 0.3, 0.7, 1.0)
    ]
    assert share[0] < 0.06 and share[-1] == 1.0
    assert share == sorted(share)


@pytest.mark.parametrize("steps", [4, 25])
def test_steps_towards_a_fixed_guess_arrive(path, steps: int) -> None:
    guess = torch.randint(K, (1, N), generator=generator(1))
    codes, rng, reached = path.start((1, N), generator()), generator(), []
    times = shifted_times(steps)
    for time, after in itertools.pairwise(times):
        codes = path.step(codes, guess, time, after - time, rng)
        reached.append(float((codes == guess).float().mean()))
    assert reached == sorted(reached) or steps < 10
    assert reached[-1] > (0.9 if steps > 10 else 0.75)


def test_chain_and_corruption_have_the_same_law(path) -> None:
    """The chain towards a known image is at time t distributed as p_t (coarse steps deviate a little)."""
    guess = torch.randint(K, (1, 4 * N), generator=generator(1))
    codes, rng, time, dt = path.start((1, 4 * N), generator()), generator(), 0.0, 0.01
    while time < 0.5 - 1e-9:
        codes = path.step(codes, guess, time, dt, rng)
        time += dt
    direct = path.corrupt(guess, torch.tensor([0.5]), rng)
    shares = [float((x == guess).float().mean()) for x in (codes, direct)]
    assert shares[0] == pytest.approx(shares[1], abs=0.06)


def test_the_uniform_path_jumps_as_a_chain_of_constant_rate_does() -> None:
    path, guess = make_noise_path("uniform", torch.randn(1, K, 8)), torch.zeros(1, 40_000, dtype=torch.long)
    for time, dt in ((0.0, 0.5), (0.5, 0.25), (0.2, 0.6)):
        jumped = path.step(guess + 1, guess, time, dt, generator()) == 0
        assert float(jumped.float().mean()) == pytest.approx(1 - math.exp(-dt / (1 - time)), abs=0.01)
    assert (path.step(guess + 1, guess, 0.5, 0.5, generator()) == 0).all()


def test_the_metric_path_takes_its_constants() -> None:
    codebook, codes = torch.randn(K, 8, generator=generator()), torch.randint(K, (1, N), generator=generator(1))
    kept = [
        float(
            (
                make_noise_path("metric", codebook[None], 0.9, c).corrupt(codes, torch.tensor([0.5]), generator())
                == codes
            )
            .float()
            .mean()
        )
        for c in (0.3, 3.0, 30.0)
    ]
    assert kept == sorted(kept) and kept[-1] > 0.9
    with pytest.raises(InvalidValueError, match="alpha and c of the metric path must be positive"):
        make_noise_path("metric", codebook[None], 0.0)


def test_the_mask_path_masks_and_never_unsettles() -> None:
    path = make_noise_path("mask", torch.randn(1, K, 8))
    start = path.start((1, N), generator())
    assert (start == K).all()
    guess = torch.zeros_like(start)
    half = path.step(start, guess, 0.0, 0.5, generator())
    assert 0.4 < float((half == K).float().mean()) < 0.6
    later = path.step(half, guess + 1, 0.5, 0.25, generator())
    assert (later[half == 0] == 0).all()
