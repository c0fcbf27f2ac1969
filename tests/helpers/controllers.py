"""Controllers of real arms as far as who commands them can tell: what they refuse, where they send the joints, when
they hold. Numpy only; knows no middleware.

Written from what ros2_controllers for Jazzy does, for position interfaces. The real ones cannot be had here: no package
registry has wheels of ros2_control, so neither its controllers nor mock_components run in these tests. Left out are
partial goals, joints without limits, speed scaling, `decelerate_on_cancel` and feedback of actions.

Times are seconds of one clock, which the caller reads. Shapes: J joints.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

import numpy as np
from joint_trajectory import Playback, Point, Refusal, State, Trajectory, in_order, refusal

from emu_robot.core import Floats


class Status(StrEnum):
    """Of a goal."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    ABORTED = "aborted"
    CANCELED = "canceled"


class Code(IntEnum):
    """Error codes of control_msgs/action/FollowJointTrajectory that a controller gives."""

    SUCCESSFUL = 0
    INVALID_GOAL = -1
    PATH_TOLERANCE_VIOLATED = -4
    GOAL_TOLERANCE_VIOLATED = -5


@dataclass(kw_only=True)
class Goal:
    """Of an action."""

    status: Status = Status.ACTIVE
    """What came of it so far."""
    code: Code = Code.SUCCESSFUL
    """Why it was aborted."""
    stalled: bool = False
    """Of a gripper that came to rest elsewhere."""
    on_end: Callable[[], None] = field(default=lambda: None)
    """Called once, when it is not active any more."""

    def end(self, status: Status, code: Code = Code.SUCCESSFUL) -> None:
        self.status, self.code = status, code
        self.on_end()


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """How far joints may be from where they should; 0: as far as they like."""

    path: Floats
    """(J,) on the way [rad]"""
    goal: Floats
    """(J,) after the last point [rad]"""
    goal_time: float = 0.0
    """How long after the last point that may take [s]; 0: for ever."""

    def with_goal(
        self, joints: tuple[str, ...], path: Mapping[str, float], goal: Mapping[str, float], goal_time: float
    ) -> "Tolerances":
        """With an action's own: 0 keeps what was, -1 is none; a wrong one leaves all of them as they were."""
        given = [*path.values(), *goal.values(), goal_time]
        if not {*path, *goal} <= set(joints) or any(value < 0 and value != -1 for value in given):
            return self

        def resolved(default: float, value: float) -> float:
            return default if value == 0 else max(value, 0.0)

        def joined(defaults: Floats, values: Mapping[str, float]) -> Floats:
            pairs = zip(defaults.tolist(), joints, strict=True)
            return np.array([resolved(default, values.get(name, 0.0)) for default, name in pairs])

        return Tolerances(
            path=joined(self.path, path), goal=joined(self.goal, goal), goal_time=resolved(self.goal_time, goal_time)
        )


@dataclass(frozen=True, kw_only=True)
class TrajectorySettings:
    """Parameters of a joint_trajectory_controller, with its defaults."""

    joints: tuple[str, ...]
    """In the controller's order."""
    rate: float
    """Updates per second [Hz]."""
    allow_nonzero_velocity_at_trajectory_end: bool = False
    """Whether points in motion may be the last ones."""
    interpolate_from_desired_state: bool = False
    """Whether a new trajectory begins where the one before had led, instead of where the joints are measured."""
    cmd_timeout: float = 0.0
    """How long after the last point it goes on before it holds [s]; not used unless larger than goal_time."""
    path_tolerance: float = 0.0
    """Of every joint on the way [rad]; 0: none."""
    goal_tolerance: float = 0.0
    """Of every joint at the end [rad]; 0: none."""
    goal_time: float = 0.0
    """How long reaching the end may take [s]; 0: for ever."""

    @property
    def tolerances(self) -> Tolerances:
        n = len(self.joints)
        return Tolerances(
            path=np.full(n, self.path_tolerance), goal=np.full(n, self.goal_tolerance), goal_time=self.goal_time
        )


class JointTrajectoryController:
    """Active from the start, and holding there.

    setpoint: (J,) what the hardware is told; may be not finite, as in life. refusals: how often each.
    holds: why it began to hold by itself, in order.
    """

    def __init__(self, settings: TrajectorySettings, position: Floats) -> None:
        self.settings, self.setpoint = settings, position.copy()
        self.refusals: Counter[str] = Counter()
        self.holds: list[str] = []
        self.is_holding = self._first = True
        self._timeout = settings.cmd_timeout if settings.cmd_timeout > settings.goal_time else 0.0
        self._tolerances = settings.tolerances
        self._goal: Goal | None = None
        self._playing: Playback | None = None
        self._last, self._last_at = State(positions=position.copy()), None
        self._measured = State(positions=position.copy())
        self._new: Trajectory | None = self._staying(position)

    # -- what comes in

    def judge(self, trajectory: Trajectory, now: float) -> Refusal | None:
        """Why a trajectory would not be taken, counted."""
        settings = self.settings
        moving_end = settings.allow_nonzero_velocity_at_trajectory_end
        why = refusal(trajectory, settings.joints, now, moving_end=moving_end)
        if why is not None:
            self.refusals[why.value] += 1
        return why

    def command(self, trajectory: Trajectory, now: float) -> Refusal | None:
        """From the topic. It replaces what runs, also an action's trajectory; that goal stays active on the new one."""
        why = self.judge(trajectory, now)
        if why is None:
            self._new, self.is_holding = in_order(trajectory, self.settings.joints), False
        return why

    def accept(self, trajectory: Trajectory, now: float, tolerances: Tolerances | None = None) -> Goal | Refusal:
        """An action's goal, which aborts the one before."""
        why = self.judge(trajectory, now)
        if why is not None:
            return why
        self._end_goal(Status.ABORTED, Code.INVALID_GOAL)
        self._new, self.is_holding = in_order(trajectory, self.settings.joints), False
        self._goal, self._tolerances = Goal(), tolerances or self.settings.tolerances
        return self._goal

    def cancel(self, goal: Goal) -> None:
        """The goal that runs ends and the joints stay where they are measured; of one that has ended, nothing."""
        if goal is self._goal:
            self._end_goal(Status.CANCELED)
            self._hold("canceled")

    # -- the control loop

    def update(self, position: Floats, velocity: Floats, now: float) -> Floats:
        """The setpoint (J,) for the next period, from what is measured now."""
        self._measured = State(positions=position.copy(), velocities=velocity.copy())
        if self._new is not None:
            self._begin(self._new, now)
        assert self._playing is not None
        desired = self._playing.at(now).positions
        next_state = self._playing.at(now + 1 / self.settings.rate)
        ended = self._playing.after_end(now + 1 / self.settings.rate) >= 0
        overdue = self._playing.after_end(now)
        if self._judge_progress(np.abs(desired - position), ended, overdue):
            self.setpoint, self._last, self._last_at = next_state.positions.copy(), next_state, now
        return self.setpoint

    def _begin(self, trajectory: Trajectory, now: float) -> None:
        from_desired = self.settings.interpolate_from_desired_state
        since = self._last_at if from_desired and self._last_at is not None else now
        before = self._last if from_desired else self._measured
        self._playing, self._new = Playback(trajectory, now=now, since=since, before=before), None
        self._first = True

    def _judge_progress(self, error: Floats, ended: bool, overdue: float) -> bool:
        """What errors (J,) mean and silence does; whether the hardware gets a new setpoint."""
        if self.is_holding:
            self._first = False
            return True
        if ended and self._timeout and overdue > self._timeout:
            self._time_out()
            return True  # it holds from the next period on
        strayed = (not ended or self._first) and _outside(error, self._tolerances.path)
        missed = ended and _outside(error, self._tolerances.goal)
        late = bool(missed and self._tolerances.goal_time and overdue > self._tolerances.goal_time)
        self._first = False
        if strayed:
            self._end_goal(Status.ABORTED, Code.PATH_TOLERANCE_VIOLATED)
            self._hold("path tolerance")
        elif late:
            self._end_goal(Status.ABORTED, Code.GOAL_TOLERANCE_VIOLATED)
            self._hold("goal tolerance")
        elif ended and not missed and self._goal is not None:
            self._end_goal(Status.SUCCEEDED)
            self.is_holding = True  # at the last point, not where it is measured
        return not (strayed or late)

    def _time_out(self) -> None:
        """Hold where the joints are measured; a goal that still waits for its tolerance succeeds, and stays."""
        if self._goal is None:
            self._hold("command timeout")
        else:
            self._end_goal(Status.SUCCEEDED)
            self.is_holding = True

    # -- helpers

    def _hold(self, why: str) -> None:
        self.holds.append(why)
        self._new, self.is_holding = self._staying(self._measured.positions), True

    def _staying(self, position: Floats) -> Trajectory:
        point = Point(time=0.0, state=State(positions=position.copy()))
        return Trajectory(names=self.settings.joints, points=(point,))

    def _end_goal(self, status: Status, code: Code = Code.SUCCESSFUL) -> None:
        if self._goal is not None:
            self._goal.end(status, code)
            self._goal = None


def _outside(error: Floats, tolerance: Floats) -> bool:
    return bool(((tolerance > 0) & (error > tolerance)).any())


class ForwardController:
    """forward_command_controller: one number per joint, in the order of its parameter `joints`.

    A message with another number of them makes its update fail, for which controller_manager deactivates it: from then
    on it takes nothing. Numbers that are not finite are dropped. It has no timeout.
    """

    def __init__(self, joints: tuple[str, ...], position: Floats) -> None:
        self.joints, self.setpoint, self.is_active = joints, position.copy(), True
        self.refusals: Counter[str] = Counter()
        self._new: Floats | None = None

    def command(self, numbers: Floats) -> None:
        """From the topic."""
        if not np.isfinite(numbers).all():
            self.refusals["not finite"] += 1
        elif self.is_active:
            self._new = numbers.copy()
        else:
            self.refusals["not active"] += 1

    def update(self) -> Floats:
        """The setpoint (J,)."""
        if self._new is not None and self.is_active:
            if len(self._new) == len(self.joints):
                self.setpoint = self._new
            else:
                self.refusals["deactivated by a wrong number of values"] += 1
                self.is_active = False
        self._new = None
        return self.setpoint


class GripperController:
    """Goals of control_msgs/action/GripperCommand, each taken, for one joint [rad or m].

    stall_timeout: rest elsewhere [s] that ends a goal, as aborted.
    """

    def __init__(self, position: float, *, tolerance: float = 0.01, stall_timeout: float = 1.0) -> None:
        self.setpoint, self.goals = position, list[float]()
        self._tolerance, self._stall_timeout = tolerance, stall_timeout
        self._goal: Goal | None = None
        self.measured, self._moved_at = position, 0.0

    def accept(self, position: float, now: float) -> Goal:
        """The goal before, if it still runs, is canceled."""
        if self._goal is not None:
            self._goal.end(Status.CANCELED)
        self.goals.append(position)
        self.setpoint, self._moved_at, self._goal = position, now, Goal()
        return self._goal

    def cancel(self, goal: Goal) -> None:
        """Stay where it is measured."""
        if goal is self._goal:
            self.setpoint, self._goal = self.measured, None
            goal.end(Status.CANCELED)

    def update(self, position: float, velocity: float, now: float) -> float:
        """The setpoint."""
        self.measured = position
        if abs(velocity) > 0.001:
            self._moved_at = now
        goal, reached = self._goal, abs(self.setpoint - position) < self._tolerance
        if goal is not None and (reached or now - self._moved_at > self._stall_timeout):
            self._goal, goal.stalled = None, not reached
            goal.end(Status.SUCCEEDED if reached else Status.ABORTED)
        return self.setpoint
