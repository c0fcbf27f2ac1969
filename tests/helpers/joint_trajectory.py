"""Joint trajectories as the controllers of real arms take and sample them. Numpy only.

Written from what ros2_controllers for Jazzy (joint_trajectory_controller 4.x) does. Shapes: J joints.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from itertools import pairwise
from math import factorial

import numpy as np

from emu_robot.core import Floats

NONE = np.empty(0)
"""What a point does not say."""
REST_SPEED = float(np.finfo(np.float32).eps)
"""Speed at a trajectory's end that a controller takes for none [rad/s]."""


@dataclass(frozen=True, kw_only=True)
class State:
    """Joints at one moment; velocities and accelerations may be empty."""

    positions: Floats
    """(J,) [rad]"""
    velocities: Floats = field(default_factory=lambda: NONE)
    """(J,) [rad/s], or (0,)"""
    accelerations: Floats = field(default_factory=lambda: NONE)
    """(J,) [rad/s^2], or (0,)"""

    @property
    def fields(self) -> tuple[Floats, Floats, Floats]:
        """Position and its derivatives in order."""
        return self.positions, self.velocities, self.accelerations


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where the joints are to be at a time."""

    time: float
    """After the trajectory's start [s]."""
    state: State
    """There."""
    has_effort: bool = False
    """Whether efforts came with it, which controllers of positions refuse."""


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """A message."""

    names: tuple[str, ...]
    """Of the joints, in the order of the points' numbers."""
    points: tuple[Point, ...]
    """In the order of their times."""
    start: float = 0.0
    """Stamp of the header [s]; 0: when the controller takes it up."""


class Refusal(StrEnum):
    """Why a controller does not take a trajectory."""

    NUMBER = "another number of joints"
    NO_POINTS = "no points"
    UNKNOWN = "a joint that is not the controller's"
    MOVING_END = "velocity at the end"
    PAST = "ended before now"
    TIMES = "times do not rise"
    SIZES = "another number of values than of joints"
    EFFORT = "effort for a controller of positions"


def refusal(trajectory: Trajectory, joints: Sequence[str], now: float, *, moving_end: bool = False) -> Refusal | None:
    """The first rule that a trajectory breaks, in the controller's order; it looks for no finite numbers nor limits.

    moving_end: the parameter allow_nonzero_velocity_at_trajectory_end. allow_partial_joints_goal is false.
    """
    points = trajectory.points
    if len(trajectory.names) != len(joints):
        return Refusal.NUMBER
    if not points:
        return Refusal.NO_POINTS
    if not set(trajectory.names) <= set(joints):
        return Refusal.UNKNOWN
    if not moving_end and (np.abs(points[-1].state.velocities) > REST_SPEED).any():
        return Refusal.MOVING_END
    if trajectory.start and trajectory.start + points[-1].time < now:
        return Refusal.PAST
    for i, point in enumerate(points):
        if i > 0 and point.time <= points[i - 1].time:
            return Refusal.TIMES
        positions, *derivatives = point.state.fields
        if len(positions) != len(joints) or any(len(values) not in (0, len(joints)) for values in derivatives):
            return Refusal.SIZES
        if point.has_effort:
            return Refusal.EFFORT
    return None


def in_order(trajectory: Trajectory, joints: Sequence[str]) -> Trajectory:
    """With its numbers in the order of a controller's joints. Doubled names leave what they do not name at 0."""
    order = [joints.index(name) for name in trajectory.names]

    def sorted_values(values: Floats) -> Floats:
        found = np.zeros(len(joints) if len(values) else 0)
        if len(values):
            found[order] = values
        return found

    points = tuple(
        Point(
            time=point.time, state=State(**{name: sorted_values(values) for name, values in vars(point.state).items()})
        )
        for point in trajectory.points
    )
    return Trajectory(names=tuple(joints), points=points, start=trajectory.start)


@cache
def _from_ends(derivatives: int) -> Floats:
    """What the ends of [0, 1] say (position first, then so many derivatives, of each end) -> polynomial, (2n, 2n)."""
    n = derivatives + 1
    says = np.zeros((2 * n, 2 * n))
    for d in range(n):
        says[d, d] = factorial(d)
        for power in range(d, 2 * n):
            says[n + d, power] = factorial(power) / factorial(power - d)
    return np.linalg.inv(says).astype(np.float64)


def between(a: State, b: State, duration: float, elapsed: float) -> State:
    """On the way from a to b [s]: a line, a cubic if both say velocities, a quintic if both say accelerations, too."""
    shared = [bool(len(ours) and len(theirs)) for ours, theirs in zip(a.fields, b.fields, strict=True)]
    derivatives = 2 if all(shared) else int(shared[1])
    if duration <= 0:
        zeros = np.zeros_like(a.positions)
        return State(positions=a.positions, velocities=zeros, accelerations=zeros)
    ends = [duration**d * end.fields[d] for end in (a, b) for d in range(derivatives + 1)]
    coefficients, share = _from_ends(derivatives) @ np.stack(ends), elapsed / duration
    found = []
    for d in range(3):
        powers = range(d, len(coefficients))
        weights = [factorial(p) / factorial(p - d) * share ** (p - d) / duration**d for p in powers]
        found.append(np.array(weights) @ coefficients[d:] if weights else np.zeros_like(a.positions))
    return State(positions=found[0], velocities=found[1], accelerations=found[2])


class Playback:
    """A trajectory that is carried out, from `before` at `since` [s] on."""

    def __init__(self, trajectory: Trajectory, *, now: float, since: float, before: State) -> None:
        self._points, self._since = trajectory.points, since
        self._start = trajectory.start or now
        first = self._points[0].state
        self._before = State(
            positions=before.positions,
            velocities=before.velocities if len(before.velocities) else np.zeros_like(first.velocities),
            accelerations=before.accelerations if len(before.accelerations) else np.zeros_like(first.accelerations),
        )

    def after_end(self, time: float) -> float:
        """How long ago the last point was due [s]; negative before it."""
        return time - self._start - self._points[-1].time

    def at(self, time: float) -> State:
        """At a time not before `since` [s]. After the last point it is that point, with the velocity that it says."""
        points, elapsed = self._points, time - self._start
        if elapsed < points[0].time:
            began = self._since - self._start
            return between(self._before, points[0].state, points[0].time - began, elapsed - began)
        for one, other in pairwise(points):
            if elapsed < other.time:
                return between(one.state, other.state, other.time - one.time, elapsed - one.time)
        end = points[-1].state
        zeros = np.zeros_like(end.positions)
        return State(
            positions=end.positions,
            velocities=end.velocities if len(end.velocities) else zeros,
            accelerations=end.accelerations if len(end.accelerations) else zeros,
        )
