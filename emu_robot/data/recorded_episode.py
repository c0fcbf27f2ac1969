"""Turn a recording into numbers at a steady rate and into subtasks. Suffixes: T ticks, S state, A action."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats, Floats32
from emu_robot.data.labels import LabelSource, Segmentation
from emu_robot.data.mcap_recording import Recorded, Samples
from emu_robot.errors import DataError
from emu_robot.robots.deployment import Gripper


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A recording at a steady rate. Dimensions are the joints, then the gripper if there is one."""

    times: Floats
    """(T,) since the recording's first message [s]."""
    state: Floats32
    """(T, S)."""
    action: Floats32
    """(T, A)."""
    shown: dict[str, NDArray[np.int64]]
    """Our camera -> (T,) index of the last picture that had arrived at each tick."""


def resample(recorded: Recorded, *, control_hz: int, max_gap_s: float) -> Numbers:
    """Resample to `control_hz`, from the first tick with all data to the first end of any, or to the planner's stop.

    State: interpolated between joint states, the gripper as opening. Action: the position commanded for the tick's end.
    Raises `DataError` for a silence longer than `max_gap_s`, or if less than two ticks remain.
    """
    needed = [*recorded.cameras.values(), *recorded.joints.values(), recorded.arm]
    needed += [recorded.gripper] if recorded.gripper else []
    begin, end = max(one.times[0] for one in needed), min(one.times[-1] for one in needed)
    end = min([end, *_stops(recorded)])
    n_ticks = int((end - begin) * control_hz + 1e-6)
    if n_ticks < 2:
        spans = ", ".join(sorted({f"{one.topic} {one.times[0]:.2f} to {one.times[-1]:.2f} s" for one in needed}))
        raise DataError(f"{recorded.path}: the topics overlap for too short a time: {spans}")
    for one in needed:
        _check_gaps(recorded, one, begin, end, max_gap_s)
    times = begin + np.arange(n_ticks) / control_hz
    ends = times + 1 / control_hz
    joints = [np.interp(times, *recorded.joints[name][1:]) for name in recorded.robot.joints.names]
    commanded = [np.interp(ends, recorded.arm.times, one) for one in recorded.arm.values.T]
    if recorded.robot.gripper is not None:
        joints.append(_measured_opening(recorded, recorded.robot.gripper, times))
        commanded.append(_commanded_opening(recorded, recorded.robot.gripper, ends))
    return Numbers(
        times=times,
        state=np.stack(joints, 1).astype(np.float32),
        action=np.stack(commanded, 1).astype(np.float32),
        shown={name: _latest(one.times, times) for name, one in recorded.cameras.items()},
    )


def succeeded(recorded: Recorded) -> bool:
    """The simulation's last verdict, else the planner's. A recording without either is a demonstration: success."""
    if recorded.success is not None:
        return recorded.success
    plan = [one for one in recorded.intended if one.words or one.is_complete]
    return not any(one.words for one in plan) or not plan[-1].words


def planned_subtasks(recorded: Recorded, times: Floats) -> Segmentation | None:
    """Subtasks by the planner's subgoals; None without any.

    A subtask begins with its subgoal, the first one with the episode. It is complete when the planner says so, or at
    the last tick before the next one begins. If several arrive between two ticks, the last one counts.
    """
    begun: list[tuple[float, str]] = []
    done: dict[int, float] = {}
    for one in recorded.intended:
        if one.words:
            begun.append((one.time, one.words))
        elif begun:
            done.setdefault(len(begun) - 1, one.time)
    frame = np.searchsorted(times, [time for time, _ in begun])
    ends = np.append(frame[1:], len(times))
    kept = [k for k in range(len(begun)) if frame[k] < ends[k]]
    if not kept:
        return None
    starts = frame[kept]
    starts[0] = 0
    last = np.append(starts[1:], len(times)) - 1
    complete = [int(np.searchsorted(times, done[k])) if k in done else len(times) for k in kept]
    return Segmentation(
        subtasks=tuple(begun[k][1] for k in kept),
        starts=starts.astype(np.int32),
        keyframes=np.clip(complete, starts, last).astype(np.int32),
        source=LabelSource.subgoal,
    )


def _stops(recorded: Recorded) -> list[float]:
    """Times at which the planner stopped a task that it had begun [s]."""
    begun = [one.time for one in recorded.intended if one.words]
    stops = [one.time for one in recorded.intended if not one.words and not one.is_complete]
    return [time for time in stops if begun and time > begun[0]]


def _check_gaps(recorded: Recorded, samples: Samples, begin: float, end: float, longest: float) -> None:
    first, last = np.searchsorted(samples.times, begin, "right") - 1, np.searchsorted(samples.times, end)
    times = samples.times[first : last + 1]
    gaps = np.diff(times)
    if gaps.size and gaps.max() > longest:
        at = int(gaps.argmax())
        said = f"nothing from {times[at]:.2f} to {times[at + 1]:.2f} s, more than max_gap_s={longest}"
        raise DataError(f"{recorded.path}: {samples.topic}: {said}")


def _latest(times: Floats, at: Floats) -> NDArray[np.int64]:
    """(T,) index of the last of `times` not after each of `at`; -1 before all of them."""
    return np.searchsorted(times, at + 1e-9, "right") - 1


def _measured_opening(recorded: Recorded, gripper: Gripper, times: Floats) -> Floats:
    positions = np.interp(times, *recorded.joints[gripper.joint][1:])
    return np.array([gripper.opening(position) for position in positions])


def _commanded_opening(recorded: Recorded, gripper: Gripper, times: Floats) -> Floats:
    """(T,) openings as last commanded. For a driver with action goals: of the last chunk, before it as measured."""
    if recorded.gripper is not None:
        return recorded.gripper.values[_latest(recorded.gripper.times, times)]
    openings = _measured_opening(recorded, gripper, times)
    came = np.array([chunk.time for chunk in recorded.chunks])
    for t, k in enumerate(_latest(came, times) if len(came) else []):
        if k >= 0:
            chunk = recorded.chunks[k]
            step = int((times[t] - chunk.start) / chunk.dt)
            openings[t] = chunk.openings[np.clip(step, 0, len(chunk.openings) - 1)]
    return openings
