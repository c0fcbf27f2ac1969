"""Quality of demonstrations: thresholds of the checks, and what they found. Knows no files of a set."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from emu_robot.shared.settings import check_ranges, number

MOST_LINES = 20
"""Most findings that a summary prints one by one."""


class Verdict(StrEnum):
    """What to do with an episode."""

    PASS = "PASS"
    """Nothing was found."""
    REVIEW = "REVIEW"
    """A person should look at it."""
    EXCLUDE = "EXCLUDE"
    """It cannot be read, or teaches nothing right."""


WORST_FIRST = (Verdict.EXCLUDE, Verdict.REVIEW)
"""Verdicts of faults."""


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """Thresholds of the quality checks. Shares of motion are shares of a dimension's range in the whole set, from its
    1st to its 99th percentile, so that they hold for any unit."""

    picture_every_s: float = number(0.25, 0, 60)
    """Time between two pictures that are looked at [s]; 0 looks at none. Four per second show a freeze of 1 s."""
    black_level: float = number(16, 0, 255)
    """A picture is black if none of its 16 x 16 parts is brighter. 16 is black in the range that videos use."""
    one_colour: float = number(3, 0, 255)
    """A picture is of one colour if its parts differ by less: a covered lens, or a decoder's grey or green."""
    black_share: float = number(0.5, 0, 1)
    """Share of pictures that are black, of one colour or frozen from which an episode is excluded. A camera that wakes
    up late is only to be reviewed."""
    frozen_change: float = number(1, 0, 255)
    """Two pictures are the same if no part changes by more. Noise of a real camera changes the mean of a part by less,
    a moving arm by tens."""
    frozen_s: float = number(1, above=0)
    """Shortest freeze that counts [s]."""
    frozen_motion: float = number(0.2, 0, 1)
    """Least motion during a freeze, as a share: below it the picture may stay the same."""
    jump: float = number(0.2, above=0)
    """A state that moves by a larger share within one frame has jumped, if it is also four times its usual fastest
    motion: frames are missing, or a sensor failed."""
    static: float = number(0.05, 0, 1)
    """An episode in which no state moves by this share is static. Ten percent and less are small but real motions."""
    rest: float = number(0.01, 0, 1)
    """Arm and command are at rest if they move by less than this share within `rest_s`. Encoders and hands tremble by
    some tenths of a percent."""
    rest_s: float = number(0.3, above=0)
    """Duration of a rest [s]; shorter stops belong to a motion."""
    idle: float = number(0.6, 0, 1)
    """Share of frames at rest from which an episode is to be reviewed: a policy learns to wait there."""
    clipped: float = number(0.05, 0, 1)
    """Share of frames from which targets at the end of their range count as clipped."""
    clipped_rate: float = number(0.95, 0, 1)
    """The same for deltas and velocities, which scripted experts and joysticks often hold at full speed."""
    offset: float = number(0.08, above=0)
    """Largest share by which command and state may differ at rest. Sag and friction of hobby servos leave 1 to 3 %;
    17 degrees are 9 % of a joint that moves through 180 degrees, and more of any other."""
    same_state: float = number(0.03, above=0)
    """States are the same if no dimension differs by a larger share."""
    same_picture: float = number(8, above=0)
    """Pictures show the same if no part differs by more: a displaced object changes a part by more than noise does."""
    ahead_s: float = number(1, above=0)
    """Time over which the motions from the same state are compared [s]."""
    opposed: float = number(-0.3, -1, 1)
    """Two motions contradict each other if the cosine between them is lower. Ways around an obstacle differ by less."""
    contradicting: float = number(0.1, 0, 1)
    """Share of an episode's compared moments, in which most others do the opposite, from which it is to be reviewed."""
    start: float = number(0.25, above=0)
    """An episode starts elsewhere if a state is off the median start by a larger share, and by six times the usual
    distance from it."""
    length: float = number(3, above=1)
    """How many times longer or shorter than the median of its task an episode may be."""

    def __post_init__(self) -> None:
        check_ranges(self, "quality")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fault of an episode."""

    check: str
    """Name of the check."""
    verdict: Verdict
    """What it means for the episode."""
    reason: str
    """What was found, with numbers."""


@dataclass(frozen=True, kw_only=True)
class EpisodeQuality:
    """What was found in one episode."""

    index: int
    """Index in the set."""
    findings: tuple[Finding, ...] = ()
    """Its faults, the worst first."""

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of its faults."""
        found = {finding.verdict for finding in self.findings}
        return next((v for v in WORST_FIRST if v in found), Verdict.PASS)

    @property
    def reason(self) -> str:
        """All faults on one line."""
        return "; ".join(f"{finding.check}: {finding.reason}" for finding in self.findings)


@dataclass(frozen=True, kw_only=True)
class SetQuality:
    """What was found in a set."""

    episodes: tuple[EpisodeQuality, ...]
    """Every episode, in the set's order."""
    notes: tuple[str, ...] = field(default=())
    """Distribution of tasks, starts, lengths and outcomes; what could not be checked."""

    def of(self, verdict: Verdict) -> list[EpisodeQuality]:
        """The episodes with this verdict."""
        return [episode for episode in self.episodes if episode.verdict is verdict]

    @property
    def headline(self) -> str:
        """For instance "quality: 8 PASS, 1 REVIEW, 1 EXCLUDE of 10 episodes"."""
        counts = ", ".join(f"{len(self.of(verdict))} {verdict}" for verdict in Verdict)
        return f"quality: {counts} of {len(self.episodes)} episodes"

    def lines(self, most: int = MOST_LINES) -> list[str]:
        """The summary, a line each, at most so many episodes with faults; the worst come first."""
        faulty = [episode for verdict in WORST_FIRST for episode in self.of(verdict)]
        lines = [self.headline, *(f"  {note}" for note in self.notes)]
        lines += [f"  episode {episode.index} {episode.verdict}: {episode.reason}" for episode in faulty[:most]]
        if len(faulty) > most:
            lines.append(f"  and {len(faulty) - most} more; `emu-robot data check dataset=…` lists all")
        return lines

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "counts": {verdict.value: len(self.of(verdict)) for verdict in Verdict},
            "notes": list(self.notes),
            "episodes": [
                {"index": one.index, "verdict": one.verdict.value, "findings": [asdict(f) for f in one.findings]}
                for one in self.episodes
            ],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "SetQuality":
        """Undo `to_json`. Raises `KeyError`, `TypeError` or `ValueError` for other values."""
        return cls(
            episodes=tuple(
                EpisodeQuality(
                    index=int(one["index"]),
                    findings=tuple(
                        Finding(check=f["check"], verdict=Verdict(f["verdict"]), reason=f["reason"])
                        for f in one["findings"]
                    ),
                )
                for one in values["episodes"]
            ),
            notes=tuple(values["notes"]),
        )


def spans(frames: Sequence[int], most: int = 3) -> str:
    """Ascending frames in words, for instance "frames 0-12, 40"."""
    runs: list[list[int]] = []
    for t in frames:
        if runs and t == runs[-1][1] + 1:
            runs[-1][1] = t
        else:
            runs.append([t, t])
    told = [f"{a}-{b}" if b > a else str(a) for a, b in runs[:most]]
    return f"frames {', '.join(told)}" + (f" and {len(runs) - most} more parts" if len(runs) > most else "")
