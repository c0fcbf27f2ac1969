"""Compares evaluations with the first of them: difference, exact tests, layouts that only one of them solves."""

from collections.abc import Sequence
from dataclasses import dataclass

from emu_robot.evaluation.compared_runs import Layout, Run
from emu_robot.evaluation.records import EpisodeRecord, per_task, successes
from emu_robot.evaluation.statistics import ALPHA, Proportion, barnard, difference_interval, holm, paired


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Layouts that two runs share, which begin alike."""

    n: int
    """Number of shared layouts."""
    only_first: int
    """Layouts that only the first run solved."""
    only_other: int
    """Layouts that only the other run solved."""
    p: float
    """McNemar's exact test."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One run beside the first."""

    task: str
    """A task, or "all"."""
    first: str
    """Name of the first run."""
    other: str
    """Name of the other run."""
    a: Proportion
    """Success of the first."""
    b: Proportion
    """Success of the other."""
    p: float
    """Barnard's exact test, corrected by Holm's method for all comparisons that are made beside it."""
    pairing: Pairing | None = None
    """Shared layouts; None without any."""

    @property
    def points(self) -> float:
        """Other minus first [points]."""
        return 100 * (self.b.rate - self.a.rate)

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of `points`."""
        low, high = difference_interval(self.b, self.a)
        return 100 * low, 100 * high

    @property
    def is_separated(self) -> bool:
        """Whether the test tells them apart."""
        return self.p < ALPHA

    @property
    def verdict(self) -> str:
        """In words."""
        return "separated" if self.is_separated else "not separated"

    def __str__(self) -> str:
        low, high = self.interval
        told = f"{self.other} against {self.first}: {self.points:+.1f} points [{low:+.1f}, {high:+.1f}]"
        both = f"; on {self.pairing.n} shared layouts p={self.pairing.p:.3g}" if self.pairing else ""
        return f"{told}, p={self.p:.3g}, {self.verdict}{both}"


def overall(runs: Sequence[Run]) -> list[Comparison]:
    """Every run beside the first, over all episodes."""
    first, others = runs[0], runs[1:]
    a, every = successes(first.records), [successes(run.records) for run in others]
    ps = holm([barnard(a, b) for b in every])
    return [
        Comparison(task="all", first=first.name, other=run.name, a=a, b=b, p=p, pairing=pair(first, run))
        for run, b, p in zip(others, every, ps, strict=True)
    ]


def by_task(runs: Sequence[Run]) -> list[Comparison]:
    """Every run beside the first in every task that both have; all of them are corrected together."""
    first = per_task(runs[0].records)
    found = [
        (task, run.name, successes(first[task]), successes(some))
        for run in runs[1:]
        for task, some in per_task(run.records).items()
        if task in first
    ]
    ps = holm([barnard(a, b) for _, _, a, b in found])
    return [
        Comparison(task=task, first=runs[0].name, other=name, a=a, b=b, p=p)
        for (task, name, a, b), p in zip(found, ps, strict=True)
    ]


def shared_layouts(a: Run, b: Run) -> list[tuple[EpisodeRecord, EpisodeRecord]]:
    """Episodes of both that begin alike: the same task, seed and instruction in the same version of the environment."""
    if a.versions != b.versions or a.info["config"]["env"] != b.info["config"]["env"]:
        return []
    if a.info["config"]["split"] != b.info["config"]["split"]:
        return []
    other = b.layouts
    pairs = [(record, other[key]) for key, record in a.layouts.items() if key in other]
    return [(one, two) for one, two in pairs if one.instruction == two.instruction]


def pair(a: Run, b: Run) -> Pairing | None:
    """The outcomes on shared layouts; None without any."""
    pairs = shared_layouts(a, b)
    if not pairs:
        return None
    first, other = [one.success for one, _ in pairs], [two.success for _, two in pairs]
    return Pairing(
        n=len(pairs),
        only_first=sum(one and not two for one, two in zip(first, other, strict=True)),
        only_other=sum(two and not one for one, two in zip(first, other, strict=True)),
        p=paired(first, other),
    )


@dataclass(frozen=True, kw_only=True)
class LayoutRow:
    """One layout beside its outcomes."""

    layout: Layout
    """Task and seed."""
    instruction: str
    """The whole task in words."""
    episodes: tuple[EpisodeRecord | None, ...]
    """The episode of every run; None where it has none."""

    @property
    def differs(self) -> bool:
        """Whether the runs have different outcomes."""
        return len({episode.success for episode in self.episodes if episode is not None}) > 1


def layout_rows(runs: Sequence[Run]) -> list[LayoutRow]:
    """Every layout of any run, in the order of the first run that has it."""
    every = [run.layouts for run in runs]
    rows = []
    for key in dict.fromkeys(key for layouts in every for key in layouts):
        episodes = tuple(layouts.get(key) for layouts in every)
        words = dict.fromkeys(episode.instruction for episode in episodes if episode is not None)
        rows.append(LayoutRow(layout=key, instruction=" | ".join(words), episodes=episodes))
    return rows
