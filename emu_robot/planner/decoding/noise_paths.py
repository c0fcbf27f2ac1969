"""Probability paths from noise to image codes, for parallel decoding: corruption of codes and its reversal.

Time t runs from 0 (noise) to 1 (the image). Discrete flow matching (Gat et al. 2024) with the metric path of Shaul et
al. 2024; default constants are those of URSA: alpha 0.9, c 3, time shift 3. Codes are 0 .. K-1; the mask path alone has
a code K. Knows neither the model nor sequences.

Shapes: B images, n codes of an image, K codebook, D its dimensions, P books, S entries of a book.
"""

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from emu_robot.errors import InvalidValueError
from emu_robot.models.digits import join_digits, split_digits
from emu_robot.planner.decoding.sampling import Randomness, draw, uniform

TIME_SHIFT = 3.0
ALPHA, C = 0.9, 3.0
"""How late and how strongly the metric path prefers near codes. Good values depend on the codebook: with that of `mini`
0.2 % of the codes are the image's at t = 0.5, 43 % at t = 0.99."""
T_END = 0.999
"""Latest time at which the metric path's slope is evaluated; it has no bound at t = 1."""


class PathName(StrEnum):
    """The paths to choose from; members are named as they are typed in a configuration."""

    metric = "metric"
    uniform = "uniform"
    mask = "mask"


class NoisePath(Protocol):
    """One way from noise to an image."""

    def start(self, shape: tuple[int, int], randomness: Randomness) -> Tensor:
        """Codes (B, n) at t = 0."""
        ...

    def corrupt(self, codes_Bn: Tensor, time_B: Tensor, randomness: Randomness) -> Tensor:
        """A sample at each image's time, given the image: p_t(x | x1)."""
        ...

    def step(self, codes_Bn: Tensor, guess_Bn: Tensor, time: float, dt: float, randomness: Randomness) -> Tensor:
        """Codes at t + dt if `guess_Bn` is the image (Euler step of the continuous-time Markov chain)."""
        ...


def make_noise_path(name: PathName | str, books_PSD: Tensor, alpha: float = ALPHA, c: float = C) -> NoisePath:
    """The path of this name over codes with a digit for each of P books of S vectors.

    alpha, c: parameters of the metric path, which goes its way for each digit.
    """
    parts, size = books_PSD.shape[:2]
    match PathName(name):
        case PathName.metric:
            paths = [MetricPath(book_SD, alpha, c) for book_SD in books_PSD]
            return paths[0] if parts == 1 else DigitPaths(paths, size)
        case PathName.uniform:
            return UniformPath(size**parts)
        case PathName.mask:
            return MaskPath(size**parts)


def shifted_times(steps: int, shift: float = TIME_SHIFT) -> list[float]:
    """steps + 1 times from 0 to 1, spaced as in training: t = 1 - s u / (1 + (s - 1) u) for even u."""
    return [1 - shift * u / (1 + (shift - 1) * u) for u in (1 - i / steps for i in range(steps + 1))]


def sample_times(count: int, generator: torch.Generator, shift: float = TIME_SHIFT) -> Tensor:
    """(count,) training times in [0, 1)."""
    u = torch.rand(count, generator=generator, device=generator.device)
    return 1 - shift * u / (1 + (shift - 1) * u)


class UniformPath:
    """Each code is the image's with probability t, else any code.

    A code that is not the guessed one jumps to it at the rate 1 / (1 - t), so within dt with probability
    1 - exp(-dt / (1 - t)); at t + dt = 1 all do.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def start(self, shape: tuple[int, int], randomness: Randomness) -> Tensor:
        return (uniform(shape, randomness, randomness.device) * self._size).long().clamp(max=self._size - 1)

    def corrupt(self, codes_Bn: Tensor, time_B: Tensor, randomness: Randomness) -> Tensor:
        noise_Bn = self.start((codes_Bn.shape[0], codes_Bn.shape[1]), randomness)
        return torch.where(_chance(codes_Bn, time_B[:, None], randomness), codes_Bn, noise_Bn)

    def step(self, codes_Bn: Tensor, guess_Bn: Tensor, time: float, dt: float, randomness: Randomness) -> Tensor:
        return torch.where(_chance(codes_Bn, jump_probability(time, dt), randomness), guess_Bn, codes_Bn)


class MaskPath(UniformPath):
    """Each code is the image's with probability t, else the mask; unmasked codes stay.

    A step of dt unmasks with probability dt / (1 - t), which keeps p_t for any step.
    """

    def start(self, shape: tuple[int, int], randomness: Randomness) -> Tensor:
        return torch.full(shape, self._size, device=randomness.device)

    def step(self, codes_Bn: Tensor, guess_Bn: Tensor, time: float, dt: float, randomness: Randomness) -> Tensor:
        unmasked_Bn = (codes_Bn == self._size) & _chance(codes_Bn, dt / (1 - time), randomness)
        return torch.where(unmasked_Bn, guess_Bn, codes_Bn)


class MetricPath(UniformPath):
    """Codes near the image's code are likelier the later it is: p_t(x | x1) = softmax_x(-beta_t d(x, x1)).

    d is the squared distance of the codebook's unit vectors; beta_t = c (t / (1 - t))^alpha.
    """

    def __init__(self, codebook_KD: Tensor, alpha: float = ALPHA, c: float = C) -> None:
        if not (0 < alpha < math.inf and 0 < c < math.inf):
            raise InvalidValueError(f"alpha and c of the metric path must be positive and finite, got {alpha} and {c}")
        super().__init__(len(codebook_KD))
        self._book_KD = F.normalize(codebook_KD.detach().float(), dim=-1)
        self._alpha, self._c = alpha, c

    def corrupt(self, codes_Bn: Tensor, time_B: Tensor, randomness: Randomness) -> Tensor:
        beta_B = torch.tensor([self._beta(time) for time in time_B.tolist()], device=codes_Bn.device)
        logits_BnK = -beta_B[:, None, None] * self._distance(codes_Bn)
        return draw(logits_BnK.softmax(-1), randomness)

    def step(self, codes_Bn: Tensor, guess_Bn: Tensor, time: float, dt: float, randomness: Randomness) -> Tensor:
        distance_BnK = self._distance(guess_Bn)
        closer_BnK = F.relu(distance_BnK.gather(-1, codes_Bn[..., None]) - distance_BnK)
        density_BnK = (-self._beta(time) * distance_BnK).softmax(-1)
        rate_BnK = density_BnK * self._slope(time) * closer_BnK
        total_Bn = rate_BnK.sum(-1)
        jumps_Bn = _chance(codes_Bn, 1 - torch.exp(-dt * total_Bn), randomness) & (total_Bn > 0)
        target_Bn = draw(torch.where(jumps_Bn[..., None], rate_BnK, torch.ones_like(rate_BnK)), randomness)
        return torch.where(jumps_Bn, target_Bn, codes_Bn)

    def _distance(self, codes_Bn: Tensor) -> Tensor:
        """(B, n, K) distances to every code."""
        return 2 - 2 * self._book_KD[codes_Bn] @ self._book_KD.T

    def _beta(self, time: float) -> float:
        time = min(time, T_END)
        return self._c * (time / (1 - time)) ** self._alpha

    def _slope(self, time: float) -> float:
        """d beta / dt; finite at 0, where the exponent below 1 would make it infinite."""
        time = min(max(time, 1e-3), T_END)
        return self._c * self._alpha * (time / (1 - time)) ** (self._alpha - 1) / (1 - time) ** 2


class DigitPaths:
    """A path for each digit of a code."""

    def __init__(self, paths: Sequence[NoisePath], size: int) -> None:
        """size: number of values of a digit."""
        self._paths, self._size = paths, size

    def start(self, shape: tuple[int, int], randomness: Randomness) -> Tensor:
        return self._joined([path.start(shape, randomness) for path in self._paths])

    def corrupt(self, codes_Bn: Tensor, time_B: Tensor, randomness: Randomness) -> Tensor:
        pairs = zip(self._paths, self._split(codes_Bn), strict=True)
        return self._joined([path.corrupt(own, time_B, randomness) for path, own in pairs])

    def step(self, codes_Bn: Tensor, guess_Bn: Tensor, time: float, dt: float, randomness: Randomness) -> Tensor:
        pairs = zip(self._paths, self._split(codes_Bn), self._split(guess_Bn), strict=True)
        return self._joined([path.step(own, guess, time, dt, randomness) for path, own, guess in pairs])

    def _split(self, codes_Bn: Tensor) -> tuple[Tensor, ...]:
        return split_digits(codes_Bn, self._size, len(self._paths)).unbind(-1)

    def _joined(self, digits: Sequence[Tensor]) -> Tensor:
        return join_digits(torch.stack(list(digits), -1), self._size)


def jump_probability(time: float, dt: float) -> float:
    """Probability that a chain with the rate 1 / (1 - t) jumps within dt; 1 for a step that reaches t = 1."""
    return 1.0 if time + dt >= 1 else 1 - math.exp(-dt / (1 - time))


def _chance(like_Bn: Tensor, probability: Tensor | float, randomness: Randomness) -> Tensor:
    return uniform(like_Bn.shape, randomness, like_Bn.device) < probability
