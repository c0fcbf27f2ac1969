"""Checks of one episode: cameras, motion, commands. Suffixes: T frames, K pictures, S and A dimensions."""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from emu_robot.core import Floats32
from emu_robot.data.quality import Finding, QualityConfig, Verdict, spans
from emu_robot.data.quality_reading import Reading
from emu_robot.data.quality_scale import SetScale, moved

FLAT = 3
"""Least frames at the end of a range that count as clipped."""


def episode_findings(reading: Reading, scale: SetScale | None, config: QualityConfig) -> Iterator[Finding]:
    """Every fault of an episode that needs no other episode. scale: None if no episode can be read."""
    if reading.fault or scale is None:
        yield Finding(check="unreadable", verdict=Verdict.EXCLUDE, reason=reading.fault or "no episode can be read")
        return
    if reading.gap:
        yield Finding(check="timing gap", verdict=Verdict.EXCLUDE, reason=reading.gap)
    for camera in reading.parts:
        yield from _black(reading, camera, config)
        yield from _frozen(reading, camera, scale, config)
    if moved(reading.state, scale.state_range) < config.static:
        most = 100 * moved(reading.state, scale.state_range)
        reason = f"no state moves by more than {most:.1f} % of its range in the set"
        yield Finding(check="static", verdict=Verdict.EXCLUDE, reason=reason)
        return
    for check in (_idle, _stuck, _jump, _clipped, _offset):
        yield from check(reading, scale, config)


def _black(reading: Reading, camera: str, config: QualityConfig) -> Iterator[Finding]:
    parts = reading.parts[camera].reshape(len(reading.seen), -1, 3).astype(np.int16)
    is_black = parts.max((1, 2)) <= config.black_level
    is_even = np.ptp(parts, axis=1).max(1) <= config.one_colour
    for name, bad in (("black camera", is_black), ("camera of one colour", is_even & ~is_black)):
        if bad.any():
            share = float(bad.mean())
            worse = share >= config.black_share
            shown = spans_of_samples(reading, bad)
            yield Finding(
                check=name,
                verdict=Verdict.EXCLUDE if worse else Verdict.REVIEW,
                reason=f"{camera} in {100 * share:.0f} % of its pictures ({shown})",
            )


def _frozen(reading: Reading, camera: str, scale: SetScale, config: QualityConfig) -> Iterator[Finding]:
    parts = reading.parts[camera].astype(np.int16)
    begin, bad = 0, np.zeros(len(parts), np.bool_)
    if parts.max(initial=0) <= config.black_level:
        return  # told as black
    for k in range(1, len(parts) + 1):
        if k < len(parts) and np.abs(parts[k] - parts[begin]).max() <= config.frozen_change:
            continue
        first, last = int(reading.seen[begin]), int(reading.seen[k - 1])
        long = (last - first) / reading.fps >= config.frozen_s
        if long and moved(reading.state[first : last + 1], scale.state_range) >= config.frozen_motion:
            bad[begin:k] = True
        begin = k
    if bad.any():
        worse = bad.mean() >= config.black_share
        reason = f"{camera} shows the same in {spans_of_samples(reading, bad)} while the robot moves"
        verdict = Verdict.EXCLUDE if worse else Verdict.REVIEW
        yield Finding(check="frozen camera", verdict=verdict, reason=reason)


def spans_of_samples(reading: Reading, bad: NDArray[np.bool_]) -> str:
    """The frames between bad pictures, in words."""
    every = int(reading.seen[1] - reading.seen[0]) if len(reading.seen) > 1 else 1
    frames = {int(t) for t in reading.seen[bad]}
    filled = frames | {t + i for t in frames if t + every in frames for i in range(every)}
    return spans(sorted(filled))


def at_rest(values: Floats32, ranges: Floats32, config: QualityConfig, fps: float) -> NDArray[np.bool_]:
    """(T,) whether a frame ends a rest of all dimensions (T, D)."""
    window = max(2, round(config.rest_s * fps))
    still = np.zeros(len(values), np.bool_)
    if len(values) >= window:
        windows = sliding_window_view(values, window, axis=0)
        still[window - 1 :] = (np.ptp(windows, axis=-1) / ranges).max(1, initial=0) < config.rest
    return still


def _idle(reading: Reading, scale: SetScale, config: QualityConfig) -> Iterator[Finding]:
    values = np.concatenate([reading.state, reading.action[:, scale.targets]], 1)
    ranges = np.concatenate([scale.state_range, scale.action_range[scale.targets]])
    still = at_rest(values, ranges, config, reading.fps)
    if still.mean() >= config.idle:
        reason = f"at rest for {100 * still.mean():.0f} % of its {len(still) / reading.fps:.1f} s"
        yield Finding(
            check="idle", verdict=Verdict.REVIEW, reason=f"{reason} ({spans(np.flatnonzero(still).tolist())})"
        )


def _stuck(reading: Reading, scale: SetScale, config: QualityConfig) -> Iterator[Finding]:
    """The state repeats the same numbers while the arm is told to move: a sensor or a driver stood still."""
    same = np.r_[False, (np.diff(reading.state, axis=0) == 0).all(1)] if len(reading.state) else np.zeros(0, np.bool_)
    for begin, end in runs(same):
        told = reading.action[begin:end, scale.targets]
        long = (end - begin) / reading.fps >= config.frozen_s
        if long and moved(told, scale.action_range[scale.targets]) >= config.frozen_motion:
            reason = f"all states repeat the same numbers in frames {begin}-{end - 1} while the command moves"
            yield Finding(check="frozen state", verdict=Verdict.REVIEW, reason=reason)
            return


def _jump(reading: Reading, scale: SetScale, config: QualityConfig) -> Iterator[Finding]:
    steps = np.abs(np.diff(reading.state, axis=0))
    shares = np.where(steps > 4 * scale.fastest, steps / scale.state_range, 0)
    shares[:, [i for i in range(shares.shape[1]) if i not in scale.pairs]] = 0  # a gripper may snap shut
    if shares.size and shares.max() > config.jump:
        t, i = divmod(int(shares.argmax()), shares.shape[1])
        reason = (
            f"{scale.state_names[i]} moves by {steps[t, i]:.4g} between frames {t} and {t + 1}, "
            f"usually by at most {scale.fastest[i]:.4g}"
        )
        yield Finding(check="jump", verdict=Verdict.REVIEW, reason=reason)


def _clipped(reading: Reading, scale: SetScale, config: QualityConfig) -> Iterator[Finding]:
    worst: tuple[float, str] = (0.0, "")
    for i, name in enumerate(scale.action_names):
        values, reach = reading.action[:, i], scale.high[i] - scale.low[i]
        if scale.targets[i]:
            for bound in (scale.low[i], scale.high[i]):
                share = _cut_off(values, float(bound), float(reach))
                told = f"{name} stays at {bound:.4g}, the end of its range, in {100 * share:.0f} % of the frames"
                worst = max(worst, (share if share >= config.clipped else 0.0, told))
        elif scale.rates[i] and reach > 0:
            bound = max(abs(float(scale.low[i])), abs(float(scale.high[i])))
            share = float((np.abs(values) >= bound * (1 - 1e-6)).mean())
            told = f"{name} is at its greatest, {bound:.4g}, in {100 * share:.0f} % of the frames"
            worst = max(worst, (share if share >= config.clipped_rate else 0.0, told))
    if worst[0]:
        yield Finding(check="clipped action", verdict=Verdict.REVIEW, reason=worst[1])


def _cut_off(values: Floats32, bound: float, reach: float) -> float:
    """Share of frames in which a target stays exactly at the end of its range, where it arrived at full speed.

    A pose at which episodes begin or end is a place to rest, not a limit.
    """
    here = np.abs(values - bound) <= 1e-6 * reach
    if len(values) < FLAT or not here.any() or min(abs(values[0] - bound), abs(values[-1] - bound)) < 0.02 * reach:
        return 0.0
    steps = np.abs(np.diff(values))
    usual = float(np.median(steps[steps > 1e-6 * reach])) if (steps > 1e-6 * reach).any() else 0.0
    cut = [
        (begin, end)
        for begin, end in runs(here)
        if end - begin >= FLAT and begin >= 2 and steps[begin - 2] > 0.5 * usual > 0
    ]
    return sum(end - begin for begin, end in cut) / len(values)


def _offset(reading: Reading, scale: SetScale, config: QualityConfig) -> Iterator[Finding]:
    pairs = list(scale.pairs)
    if not pairs:
        return
    state, action, ranges = reading.state[:, pairs], reading.action[:, pairs], scale.pair_range
    still = at_rest(np.concatenate([state, action], 1), np.tile(ranges, 2), config, reading.fps)
    if still.sum() < 2:
        return
    off = np.median((action - state)[still], 0)
    over = [(abs(off[k]) / ranges[k], k) for k in range(len(pairs)) if abs(off[k]) > config.offset * ranges[k]]
    if over:
        told = ", ".join(
            f"{scale.action_names[pairs[k]]} {off[k]:+.4g} ({100 * share:.0f} % of its range)"
            for share, k in sorted(over, reverse=True)
        )
        reason = f"the command stays off the state at rest: {told}"
        yield Finding(check="offset", verdict=Verdict.REVIEW, reason=reason)


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(begin, end) of every stretch of true flags."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
