"""Proportions with intervals, and whether two of them are separated. Knows nothing of robots."""

from dataclasses import dataclass

from emu_robot.errors import InvalidValueError


@dataclass(frozen=True, slots=True)
class Proportion:
    """`successes` of `n` independent trials."""

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

    def __str__(self) -> str:
        """For instance "87.0% [79.0, 92.2] (87/100)"."""
        if not self.n:
            return "no trials"
        low, high = self.interval
        return f"{100 * self.rate:.1f}% [{100 * low:.1f}, {100 * high:.1f}] ({self.successes}/{self.n})"


def barnard(a: Proportion, b: Proportion) -> float:
    """Two-sided p-value of Barnard's exact test that both proportions are the same."""
    if not a.n or not b.n:
        raise InvalidValueError("Barnard's test needs trials in both cells")
    if a.successes + b.successes in (0, a.n + b.n):
        return 1.0
    from scipy.stats import barnard_exact

    table = [[a.successes, b.successes], [a.n - a.successes, b.n - b.successes]]
    return float(barnard_exact(table, alternative="two-sided").pvalue)


def compare(name_a: str, a: Proportion, name_b: str, b: Proportion, *, alpha: float = 0.05) -> str:
    """One line on the difference a minus b, in points; "not separated" unless Barnard's test passes at `alpha`."""
    p = barnard(a, b)
    verdict = "separated" if p < alpha else "not separated"
    return (
        f"{name_a} {100 * a.rate:.1f}% vs {name_b} {100 * b.rate:.1f}%: "
        f"{100 * (a.rate - b.rate):+.1f} points, p={p:.3g}, {verdict}"
    )
