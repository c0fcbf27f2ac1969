"""Checks that compare the episodes of a set: contradictions, starts, lengths, outcomes. Suffix N: moments of all."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats32
from emu_robot.data.quality import Finding, QualityConfig, Verdict
from emu_robot.data.quality_reading import Reading
from emu_robot.data.quality_scale import SetScale
from emu_robot.shared.words import folded

NEIGHBOURS = 32
"""Most moments of other episodes that one is compared with."""
LEAST = 5
"""Least episodes of which an unusual one can be told."""
STILL = 0.02
"""A motion below this share of the ranges has no direction."""

type Findings = dict[int, list[Finding]]
"""Index of an episode -> its faults."""


def set_findings(readings: Sequence[Reading], scale: SetScale, config: QualityConfig) -> tuple[Findings, list[str]]:
    """Faults that show beside other episodes, and notes on the whole set."""
    found: Findings = defaultdict(list)
    tasks: dict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        tasks[folded(reading.task)].append(reading)
    for own in tasks.values():
        _contradictions(own, scale, config, found)
        _lengths(own, config, found)
    starts = _starts(readings, scale, config, found)
    return found, [*_distribution(readings, tasks), starts]


def _starts(readings: Sequence[Reading], scale: SetScale, config: QualityConfig, found: Findings) -> str:
    used = np.flatnonzero(np.isfinite(scale.state_range))
    first = np.stack([reading.state[0, used] for reading in readings]) / scale.state_range[used]
    off = np.abs(first - np.median(first, 0))
    usual = 6 * 1.4826 * np.median(off, 0)
    limit = np.maximum(config.start, usual)
    spread = 100 * np.ptp(first, axis=0).max(initial=0)
    for reading, own, place in zip(readings, off, first, strict=True):
        if len(readings) >= LEAST and len(used) and (own > limit).any():
            i = int((own / limit).argmax())
            unit, j = scale.state_range[used[i]], used[i]
            reason = (
                f"begins with {scale.state_names[j]} at {place[i] * unit:.4g}, "
                f"the median start is {np.median(first[:, i]) * unit:.4g}"
            )
            found[reading.index].append(Finding(check="start", verdict=Verdict.REVIEW, reason=reason))
    alike = "; a policy learns from this one start alone" if spread < 1 and len(readings) >= LEAST else ""
    return f"starts differ by up to {spread:.0f} % of a state's range{alike}"


def _lengths(readings: Sequence[Reading], config: QualityConfig, found: Findings) -> None:
    seconds = np.array([len(reading.state) / reading.fps for reading in readings])
    usual = float(np.median(seconds))
    for reading, own in zip(readings, seconds, strict=True):
        if len(readings) >= LEAST and not usual / config.length <= own <= usual * config.length:
            reason = f"lasts {own:.1f} s, the median of its task is {usual:.1f} s"
            found[reading.index].append(Finding(check="length", verdict=Verdict.REVIEW, reason=reason))


def _distribution(readings: Sequence[Reading], tasks: Mapping[str, Sequence[Reading]]) -> list[str]:
    counts = Counter({own[0].task: len(own) for own in tasks.values()})
    most = ", ".join(f"{task!r} {n}" for task, n in counts.most_common(5))
    more = f" and {len(counts) - 5} more tasks" if len(counts) > 5 else ""
    seconds = [len(reading.state) / reading.fps for reading in readings]
    told = [reading for reading in readings if reading.success is not None]
    failed = [reading.index for reading in told if not reading.success]
    shown = ", ".join(map(str, failed[:10])) + (" …" if len(failed) > 10 else "")
    outcomes = f"{len(told) - len(failed)} succeeded, {len(failed)} failed" + (f" ({shown})" if failed else "")
    return [
        f"episodes of each task: {most}{more}",
        f"lengths: {min(seconds):.1f} to {max(seconds):.1f} s, median {np.median(seconds):.1f} s",
        f"outcomes: {outcomes}" if told else "outcomes: the set tells none (no next.success)",
    ]


@dataclass(frozen=True, kw_only=True)
class _Moments:
    """Moments of one task's episodes."""

    episode: NDArray[np.int64]
    """(N,) place of the episode."""
    frame: NDArray[np.int64]
    """(N,) frame."""
    state: Floats32
    """(N, D) states as shares of the ranges."""
    before: Floats32
    """(N, D) motion of the last half of the time."""
    ahead: Floats32
    """(N, D) motion of the time that follows."""
    parts: NDArray[np.int16]
    """(N, P) colours of the pictures' parts."""


def _contradictions(readings: Sequence[Reading], scale: SetScale, config: QualityConfig, found: Findings) -> None:
    """Moments with the same task, state, picture and motion so far, after which most others did the opposite."""
    from scipy.spatial import KDTree

    readings = [reading for reading in readings if reading.parts]
    if len(readings) < 2 or not np.isfinite(scale.state_range).any():
        return
    all_moments = _moments(readings, scale, config)
    if len(all_moments.frame) < 2:
        return
    n = len(all_moments.frame)
    _, near = KDTree(all_moments.state).query(
        all_moments.state, k=min(NEIGHBOURS, n), distance_upper_bound=config.same_state, p=np.inf
    )
    compared, against = np.zeros(len(readings), np.int64), np.zeros(len(readings), np.int64)
    rivals: dict[int, Counter[int]] = defaultdict(Counter)
    frames: dict[int, list[int]] = defaultdict(list)
    for i, others in enumerate(np.asarray(near).reshape(n, -1)):
        e = int(all_moments.episode[i])
        others = others[others < n]
        others = others[all_moments.episode[others] != e]
        alike = np.abs(all_moments.parts[others] - all_moments.parts[i]).max(1, initial=0) <= config.same_picture
        others = others[alike]
        others = others[_agree(all_moments.before[i], all_moments.before[others])]
        size = np.linalg.norm(all_moments.ahead[others], axis=1)
        own = float(np.linalg.norm(all_moments.ahead[i]))
        others, size = others[size > STILL], size[size > STILL]
        if own <= STILL or not len(others):
            continue
        compared[e] += 1
        cosine = all_moments.ahead[others] @ all_moments.ahead[i] / (size * own)
        opposed = others[cosine < config.opposed]
        if 2 * len(opposed) >= len(others):
            against[e] += 1
            rivals[e].update(set(all_moments.episode[opposed].tolist()))
            frames[e].append(int(all_moments.frame[i]))
    for e, reading in enumerate(readings):
        if compared[e] and against[e] / compared[e] >= config.contradicting:
            named = ", ".join(str(readings[k].index) for k, _ in rivals[e].most_common(5))
            reason = (
                f"at frame {frames[e][0]} and in {against[e]} of {compared[e]} compared moments it moves against "
                f"most others from the same state and picture (episodes {named})"
            )
            found[reading.index].append(Finding(check="contradiction", verdict=Verdict.REVIEW, reason=reason))


def _agree(before: Floats32, others: Floats32) -> NDArray[np.bool_]:
    """(N,) whether other motions had the same direction, or were at rest as this one was."""
    own, sizes = float(np.linalg.norm(before)), np.linalg.norm(others, axis=1)
    if own <= STILL:
        return sizes <= STILL
    cosine = others @ before / np.maximum(sizes * own, 1e-12)
    return (sizes > STILL) & (cosine > 0.7)


def _moments(readings: Sequence[Reading], scale: SetScale, config: QualityConfig) -> _Moments:
    used = np.isfinite(scale.state_range)
    rows: dict[str, list[np.ndarray]] = defaultdict(list)
    for e, reading in enumerate(readings):
        state = reading.state[:, used] / scale.state_range[used]
        ahead = max(1, round(config.ahead_s * reading.fps))
        kept = reading.seen < len(state) - ahead // 2
        t = reading.seen[kept]
        rows["episode"].append(np.full(len(t), e))
        rows["frame"].append(t)
        rows["state"].append(state[t])
        rows["before"].append(state[t] - state[np.maximum(t - max(1, ahead // 2), 0)])
        rows["ahead"].append(state[np.minimum(t + ahead, len(state) - 1)] - state[t])
        parts = [np.atleast_2d(reading.parts[camera][kept]) for camera in sorted(reading.parts)]
        flat = [part.reshape(len(t), int(np.prod(part.shape[1:]))) for part in parts]
        rows["parts"].append(np.concatenate(flat, 1).astype(np.int16))
    return _Moments(**{name: np.concatenate(values) for name, values in rows.items()})
