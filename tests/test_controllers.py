"""The fake controllers, by the rules of the real ones."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from arm_model import ArmModel
from controllers import (
    Code,
    ForwardController,
    Goal,
    GripperController,
    JointTrajectoryController,
    Status,
    Tolerances,
    TrajectorySettings,
)
from joint_trajectory import NONE, Playback, Point, Refusal, State, Trajectory, between, refusal

JOINTS, RATE = ("a", "b"), 500.0
SETTINGS = TrajectorySettings(
    joints=JOINTS, rate=RATE, allow_nonzero_velocity_at_trajectory_end=True, interpolate_from_desired_state=True
)


def point(time: float, *positions: float, velocities: Any = NONE, accelerations: Any = NONE) -> Point:
    state = State(
        positions=np.array(positions), velocities=np.asarray(velocities), accelerations=np.asarray(accelerations)
    )
    return Point(time=time, state=state)


def to(*points: Point, names: tuple[str, ...] = JOINTS, start: float = 0.0) -> Trajectory:
    return Trajectory(names=names, points=points, start=start)


class Rig:
    """A controller and the arm that it moves, in time of their own."""

    def __init__(self, settings: TrajectorySettings = SETTINGS, lag: float = 0.001) -> None:
        self.now, self.arm = 100.0, ArmModel(np.zeros(2), speed=np.full(2, 10.0), lag=lag)
        self.controller = JointTrajectoryController(settings, self.arm.position)
        self.setpoints = [self.arm.position]

    def run(self, seconds: float) -> np.ndarray:
        """Setpoints (N, J) of these seconds."""
        before = len(self.setpoints)
        for _ in range(round(seconds * RATE)):
            setpoint = self.controller.update(self.arm.position, self.arm.velocity, self.now)
            self.arm.step(setpoint, 1 / RATE)
            self.setpoints.append(setpoint.copy())
            self.now += 1 / RATE
        return np.stack(self.setpoints[before:])

    def accept(self, trajectory: Trajectory, tolerances: Tolerances | None = None) -> Goal:
        goal = self.controller.accept(trajectory, self.now, tolerances)
        assert isinstance(goal, Goal)
        return goal


@pytest.mark.parametrize(
    ("trajectory", "why"),
    [
        (to(point(1, 0), names=("a",)), Refusal.NUMBER),
        (to(), Refusal.NO_POINTS),
        (to(point(1, 0, 0), names=("a", "c")), Refusal.UNKNOWN),
        (to(point(1, 0, 0, velocities=[0, 0.1])), Refusal.MOVING_END),
        (to(point(1, 0, 0), start=8.0), Refusal.PAST),
        (to(point(1, 0, 0), point(1, 0, 0)), Refusal.TIMES),
        (to(point(1, 0)), Refusal.SIZES),
        (to(point(1, 0, 0, velocities=[0.0])), Refusal.SIZES),
        (to(replace(point(1, 0, 0), has_effort=True)), Refusal.EFFORT),
        (to(point(1, 0, 0), names=("b", "a")), None),
        (to(point(2, 0, 0), start=9.0), None),
        (to(point(1, np.nan, np.inf), start=0.0), None),  # it does not look
    ],
)
def test_trajectories_are_refused_by_the_real_ones_rules(trajectory: Trajectory, why: Refusal | None):
    assert refusal(trajectory, JOINTS, now=10.0) == why


def test_a_moving_end_is_taken_where_the_parameter_allows_it():
    moving = to(point(1, 0, 0, velocities=[0, 0.1]))
    assert refusal(moving, JOINTS, 10.0, moving_end=True) is None


def test_points_are_joined_by_a_line_a_cubic_or_a_quintic():
    rest = State(positions=np.zeros(1), velocities=np.zeros(1), accelerations=np.zeros(1))
    there = replace(rest, positions=np.ones(1))
    line = between(State(positions=np.zeros(1)), State(positions=np.ones(1)), 2.0, 0.5)
    assert (line.positions[0], line.velocities[0]) == (0.25, 0.5)
    cubic = between(replace(rest, accelerations=NONE), replace(there, accelerations=NONE), 2.0, 0.5)
    assert cubic.positions[0] == pytest.approx(3 * 0.25**2 - 2 * 0.25**3)
    assert cubic.velocities[0] == pytest.approx((6 * 0.25 - 6 * 0.25**2) / 2)
    quintic = between(rest, there, 2.0, 0.5)
    assert quintic.positions[0] == pytest.approx(10 * 0.25**3 - 15 * 0.25**4 + 6 * 0.25**5)
    assert quintic.accelerations[0] == pytest.approx((60 * 0.25 - 180 * 0.25**2 + 120 * 0.25**3) / 4)


@pytest.mark.parametrize("accelerations", [NONE, [0.3, -0.2]])
def test_a_spline_meets_what_its_ends_say(accelerations: Any):
    a = point(0, 1, 2, velocities=[0.5, -1], accelerations=accelerations).state
    b = point(0, 2, -1, velocities=[0.1, 0.4], accelerations=accelerations).state
    for end, elapsed in ((a, 0.0), (b, 0.7)):
        found = between(a, b, 0.7, elapsed)
        for ours, theirs in zip(found.fields, end.fields, strict=True):
            assert not len(theirs) or np.allclose(ours, theirs)


def test_after_the_last_point_it_stays_there():
    moving = to(point(0.1, 1, 0, velocities=[3, 0]))
    played = Playback(moving, now=5.0, since=5.0, before=State(positions=np.zeros(2)))
    assert played.at(5.5).positions.tolist() == [1, 0] and played.after_end(5.5) == pytest.approx(0.4)


def test_a_stream_of_points_in_motion_is_one_smooth_motion_only_from_the_desired_state():
    def jerkiness(from_desired: bool) -> float:
        """Largest change of the setpoint's speed [rad/s], the arm's lag being 50 ms."""
        rig = Rig(replace(SETTINGS, interpolate_from_desired_state=from_desired), lag=0.05)
        for i in range(1, 50):
            rig.controller.command(to(point(0.02, 0.01 * i, 0, velocities=[0.5, 0])), rig.now)
            rig.run(0.02)
        return float(np.abs(np.diff(np.stack(rig.setpoints[20:]), n=2, axis=0)).max() * RATE)

    # The real one takes up a new trajectory one update late, so even then not quite.
    assert 10 * jerkiness(True) < jerkiness(False)


def test_names_give_the_order():
    rig = Rig()
    rig.controller.command(to(point(0.1, 2, 1), names=("b", "a")), rig.now)
    assert rig.run(0.2)[-1].tolist() == [1, 2]


def test_silence_is_held_where_the_arm_is_measured_after_the_timeout():
    rig = Rig(replace(SETTINGS, cmd_timeout=0.2), lag=0.3)
    rig.controller.command(to(point(0.1, 1, 0, velocities=[3, 0])), rig.now)
    assert rig.run(0.29)[-1].tolist() == [1, 0] and rig.controller.holds == []
    rig.run(0.05)
    assert rig.controller.holds == ["command timeout"]
    assert 0.2 < rig.controller.setpoint[0] < 0.9
    assert np.ptp(rig.run(1.0), axis=0).max() == 0


def test_the_timeout_ends_a_goal_that_waits_for_its_tolerance_as_if_it_were_reached():
    rig = Rig(replace(SETTINGS, cmd_timeout=0.2, goal_tolerance=0.1))
    rig.arm.brakes = True
    goal = rig.accept(to(point(0.1, 1, 0)))
    rig.run(0.25)
    assert goal.status is Status.ACTIVE
    rig.run(0.2)
    assert goal.status is Status.SUCCEEDED and rig.controller.setpoint.tolist() == [1, 0]


def test_without_a_timeout_or_with_one_below_the_goal_s_time_it_never_holds():
    for settings in (SETTINGS, replace(SETTINGS, cmd_timeout=0.2, goal_time=0.3)):
        rig = Rig(settings)
        rig.controller.command(to(point(0.1, 1, 0)), rig.now)
        rig.run(5.0)
        assert rig.controller.holds == []


def test_numbers_that_are_not_finite_go_through_to_the_arm():
    rig = Rig()
    assert rig.controller.command(to(point(0.1, np.nan, 0)), rig.now) is None
    rig.run(0.2)
    assert np.isnan(rig.controller.setpoint[0]) and rig.arm.not_finite > 0


def test_a_goal_succeeds_at_the_end_and_the_next_one_aborts_it():
    rig = Rig()
    first = rig.accept(to(point(0.5, 1, 0)))
    rig.run(0.2)
    assert first.status is Status.ACTIVE
    second = rig.accept(to(point(0.5, 0.5, 0)))
    assert (first.status, first.code) == (Status.ABORTED, Code.INVALID_GOAL)
    rig.run(0.6)
    assert second.status is Status.SUCCEEDED and rig.arm.position[0] == pytest.approx(0.5, abs=1e-3)
    assert isinstance(rig.controller.accept(to(), rig.now), Refusal)


def test_a_message_replaces_a_goal_s_trajectory_and_the_goal_goes_on_with_it():
    rig = Rig()
    goal = rig.accept(to(point(5, 1, 0)))
    rig.run(0.2)
    rig.controller.command(to(point(0.1, -0.5, 0)), rig.now)
    rig.run(0.3)
    assert goal.status is Status.SUCCEEDED and rig.arm.position[0] == pytest.approx(-0.5, abs=1e-3)


def test_a_canceled_goal_is_held_where_the_arm_is_measured():
    rig = Rig(lag=0.2)
    goal = rig.accept(to(point(0.5, 1, 0)))
    rig.run(0.3)
    at = rig.arm.position.copy()
    rig.controller.cancel(goal)
    assert goal.status is Status.CANCELED
    assert np.allclose(rig.run(0.5)[-1], at, atol=0.05)


def test_tolerances_abort_a_goal_whose_arm_does_not_follow():
    for field, code in (("path", Code.PATH_TOLERANCE_VIOLATED), ("goal", Code.GOAL_TOLERANCE_VIOLATED)):
        rig = Rig()
        rig.arm.brakes = True
        given = {"path": {}, "goal": {}} | {field: {"a": 0.1}}
        tolerances = SETTINGS.tolerances.with_goal(JOINTS, goal_time=0.2, **given)
        goal = rig.accept(to(point(0.5, 1, 0)), tolerances)
        rig.run(1.0)
        assert (goal.status, goal.code) == (Status.ABORTED, code)
        assert rig.controller.setpoint.tolist() == [0, 0]


def test_a_goal_s_tolerances_of_0_keep_the_controller_s_and_minus_1_takes_them_away():
    own = replace(SETTINGS, path_tolerance=0.3, goal_tolerance=0.1).tolerances
    assert own.with_goal(JOINTS, {"a": 0.0}, {"b": -1.0}, 0.0).goal.tolist() == [0.1, 0]
    assert own.with_goal(JOINTS, {"b": 0.5}, {}, 0.0).path.tolist() == [0.3, 0.5]
    for wrong in ({"c": 0.1}, {"a": -0.5}):
        assert own.with_goal(JOINTS, wrong, {}, 1.0) is own


def test_released_brakes_let_the_arm_go_to_where_commands_are_by_then():
    rig = Rig(lag=0.05)
    rig.arm.brakes = True
    rig.controller.command(to(point(0.5, 1, 0)), rig.now)
    rig.run(1.0)
    assert rig.arm.position.tolist() == [0, 0]
    rig.arm.brakes = False
    rig.run(1.0)
    assert rig.arm.position[0] == pytest.approx(1.0, abs=1e-3)


def test_bare_numbers_are_dropped_if_not_finite_and_end_the_controller_if_too_few():
    forward = ForwardController(("b", "a"), np.zeros(2))
    forward.command(np.array([1.0, np.nan]))
    assert forward.update().tolist() == [0, 0]
    forward.command(np.array([1.0, 2.0]))
    assert forward.update().tolist() == [1, 2]
    forward.command(np.array([1.0]))
    forward.update()
    forward.command(np.array([5.0, 5.0]))
    assert forward.update().tolist() == [1, 2] and not forward.is_active
    assert sorted(forward.refusals) == ["deactivated by a wrong number of values", "not active", "not finite"]


def test_a_gripper_s_goal_ends_where_it_should_or_where_something_is_in_the_way():
    gripper = GripperController(0.0)
    goal = gripper.accept(0.8, now=0.0)
    gripper.update(0.4, 1.0, 0.5)
    assert goal.status is Status.ACTIVE
    gripper.update(0.795, 1.0, 0.8)
    assert goal.status is Status.SUCCEEDED
    first, second = gripper.accept(0.0, now=1.0), gripper.accept(0.1, now=1.1)
    assert first.status is Status.CANCELED
    gripper.update(0.3, 0.0, 1.2)
    gripper.update(0.3, 0.0, 2.2)
    assert second.status is Status.ABORTED and second.stalled
    third = gripper.accept(0.0, now=3.0)
    gripper.cancel(third)
    assert gripper.update(0.3, 0.0, 3.1) == 0.3
