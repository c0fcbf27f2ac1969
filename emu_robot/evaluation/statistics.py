"""Proportions with intervals, and a test whether two of them differ. Knows nothing of robots."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emu_robot.errors import InvalidValueError

ALPHA = 0.05
"""p-value below which two proportions are separated."""


@dataclass(frozen=True, slots=True)
class Proportion:
    """`successes` in `n` independent trials."""

    successes: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.n:
            raise InvalidValueError(f"{self.successes} successes of {self.n} trials is not a proportion")

    @property
    def rate(self) -> float:
        """Successes over trials in [0, 1]; NaN without trials."""
        return self.successes / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 95% interval in [0, 1]; (0, 1) without trials."""
        if not self.n:
            return 0.0, 1.0
        from scipy.stats import binomtest

        interval = binomtest(self.successes, self.n).proportion_ci(confidence_level=0.95, method="wilson")
        return float(interval.low), float(interval.high)

    @property
    def figures(self) -> dict[str, Any]:
        """As JSON values: n_success, n, ci95, and the text of all three."""
        return {"n_success": self.successes, "n": self.n, "ci95": list(self.interval), "text": str(self)}

    def __str__(self) -> str:
        """For instance "87.0% [79.0, 92.2] (87/100)"."""
        if not self.n:
            return "no trials"
        low, high = self.interval
        return f"{100 * self.rate:.1f}% [{100 * low:.1f}, {100 * high:.1f}] ({self.successes}/{self.n})"


@dataclass(frozen=True, slots=True)
class Mean:
    """A weighted mean of independent proportions. The weights add up to 1."""

    parts: tuple[Proportion, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, parts: Sequence[Proportion]) -> "Mean":
        """The mean in which every proportion has the same weight, regardless of its number of trials."""
        return cls(tuple(parts), (1 / max(1, len(parts)),) * len(parts))

    @classmethod
    def over(cls, means: Sequence["Mean"]) -> "Mean":
        """The mean of several means, each with the same weight."""
        weights = tuple(weight / len(means) for mean in means for weight in mean.weights)
        return cls(tuple(part for mean in means for part in mean.parts), weights)

    @property
    def rate(self) -> float:
        """The mean in [0, 1]; NaN without proportions or with one that has no trials."""
        if not self.parts:
            return float("nan")
        return sum(weight * part.rate for weight, part in zip(self.weights, self.parts, strict=True))

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval in [0, 1] from the proportions' Wilson intervals (MOVER, Zou and Donner 2008).

        With one proportion it is the Wilson interval itself.
        """
        if not all(part.n for part in self.parts) or not self.parts:
            return 0.0, 1.0
        distances = [[bound - part.rate for bound in part.interval] for part in self.parts]
        below, above = (
            math.hypot(*(weight * distance[k] for weight, distance in zip(self.weights, distances, strict=True)))
            for k in (0, 1)
        )
        return max(0.0, self.rate - below), min(1.0, self.rate + above)

    def __str__(self) -> str:
        """For instance "87.0% [79.0, 92.2]"."""
        low, high = self.interval
        return f"{100 * self.rate:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def difference_interval(a: Proportion, b: Proportion) -> tuple[float, float]:
    """95% interval of the rate of `a` minus that of `b` from their Wilson intervals (Newcombe 1998, method 10)."""
    if not a.n or not b.n:
        return -1.0, 1.0
    (a_low, a_high), (b_low, b_high) = a.interval, b.interval
    below = math.hypot(a.rate - a_low, b_high - b.rate)
    above = math.hypot(a_high - a.rate, b.rate - b_low)
    return a.rate - b.rate - below, a.rate - b.rate + above


def holm(ps: Sequence[float]) -> list[float]:
    """p-values of several tests, each corrected by Holm's method so that all hold together."""
    corrected, largest = [1.0] * len(ps), 0.0
    for k, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - k) * ps[i]))
        corrected[i] = largest
    return corrected


def bootstrap_interval(values: Sequence[float], draws: int = 10_000) -> tuple[float, float] | None:
    """95% interval of the mean of independent values, by drawing them again; the same for the same values.

    None for fewer than two values, which say nothing about their spread.
    """
    if len(values) < 2:
        return None
    drawn = np.random.default_rng(0).choice(np.asarray(values, np.float64), (draws, len(values)))
    low, high = np.percentile(drawn.mean(1), [2.5, 97.5]).tolist()
    return low, high


def barnard(a: Proportion, b: Proportion) -> float:
    """Two-sided p-value of Barnard's exact test for equal proportions. Raises `InvalidValueError` without trials."""
    if not a.n or not b.n:
        raise InvalidValueError("Barnard's test needs trials in both cells")
    if a.successes + b.successes in (0, a.n + b.n):
        return 1.0
    from scipy.stats import barnard_exact

    table = [[a.successes, b.successes], [a.n - a.successes, b.n - b.successes]]
    return float(barnard_exact(table, alternative="two-sided").pvalue)


def compare(name_a: str, a: Proportion, name_b: str, b: Proportion, *, alpha: float = ALPHA) -> str:
    """One line on the difference a minus b [points]; "separated" if the p-value of Barnard's test is below `alpha`."""
    p = barnard(a, b)
    verdict = "separated" if p < alpha else "not separated"
    return (
        f"{name_a} {100 * a.rate:.1f}% vs {name_b} {100 * b.rate:.1f}%: "
        f"{100 * (a.rate - b.rate):+.1f} points, p={p:.3g}, {verdict}"
    )


def paired(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Two-sided p-value of McNemar's exact test: whether two outcomes on the same cases are equally likely."""
    only_a, only_b = (sum(one and not other for one, other in zip(*both, strict=True)) for both in ((a, b), (b, a)))
    if not only_a + only_b:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)
