"""An operator's hand: it moves the tool by speeds, towards a goal, or home, and makes joint motions of that."""

from dataclasses import dataclass, field

import numpy as np

from emu_robot.core import Floats
from emu_robot.robots.arm import Kinematics
from emu_robot.robots.limits import MotionLimits
from emu_robot.robots.pose import Pose, capped
from emu_robot.shared.settings import check_ranges, number
from emu_robot.teleop.driving import Motion
from emu_robot.teleop.ik import solve
from emu_robot.teleop.jog import SAME_GRIP

LOST, TWISTED = 0.005, 0.05
"""Errors of place [m] and turn [rad] at which the arm counts as unable to follow; the target then stays with it."""
FULL, LIGHT = 6, 0.03
"""Joints that reach every place with every turn; with fewer, what an error of the turn counts [m/rad]."""

NEAR = 0.15
"""Distance from the last command to the arm up to which a hand goes on from the command [rad]."""


@dataclass(frozen=True, kw_only=True)
class HandConfig:
    """Speeds and reach of an operator's hand."""

    linear_speed: float = number(0.1, 0.005, 0.5)
    """Speed of the tool at full stick, or with a key held [m/s]."""
    angular_speed: float = number(0.5, 0.05, 2.0)
    """Turning speed of the tool at full stick, or with a key held [rad/s]."""
    goal_speed: float = number(0.25, 0.005, 1.0)
    """Speed of the tool on its way to a dragged goal [m/s]."""
    goal_turning: float = number(1.5, 0.05, 6.0)
    """Turning speed of the tool on its way to a dragged goal [rad/s]."""
    joint_speed: float = number(1.0, 0.05, 3.0)
    """Highest speed of a joint [rad/s]."""
    home_speed: float = number(0.4, 0.05, 1.0)
    """Speed of the joints on the way home [rad/s]."""
    gripper_speed: float = number(2.0, 0.1, 10.0)
    """Speed of the gripper, in openings per second [1/s]."""
    leash_m: float = number(0.06, 0.005, 0.2)
    """Farthest that the target may lead the measured tool [m]."""
    leash_rad: float = number(0.4, 0.05, 1.5)
    """Farthest that the target may be turned from the measured tool [rad]."""

    def __post_init__(self) -> None:
        check_ranges(self, "hand")


def _zeros() -> Floats:
    return np.zeros(3)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the operator wants while the deadman is held. Nothing given: stay."""

    linear: Floats = field(default_factory=_zeros)
    """(3,) share of the full speed along each axis of the base, each in [-1, 1]."""
    angular: Floats = field(default_factory=_zeros)
    """(3,) share of the full turning speed about each axis of the base, each in [-1, 1]."""
    goal: Pose | None = None
    """Pose that the tool shall go to; None without one."""
    goes_home: bool = False
    """Whether the joints shall go home slowly."""
    grip: float = 0.0
    """1 opens the gripper, -1 closes it, 0 leaves it to the toggle."""
    joint: int | None = None
    """Index of the joint that moves, for an arm that is driven joint by joint; None for none."""
    share: float = 0.0
    """Share of that joint's full speed, in [-1, 1]."""


class Hand:
    """The `Source` of an operator who moves the tool in space.

    Its target begins where the arm is, so that nothing jumps when the deadman is pressed. `wish` is what is wanted;
    `target` is the tool's pose that it moves. An arm of fewer than six joints cannot hold every turn while it moves:
    there the place comes first, and the target takes the turn that the arm reaches.
    """

    def __init__(self, kinematics: Kinematics | None, limits: MotionLimits, home: Floats, config: HandConfig) -> None:
        """kinematics: None only for a hand that moves joints. home: (J,) joints [rad]; the dimensions after them are
        the gripper."""
        self._kinematics, self._limits, self._home, self._config = kinematics, limits, home, config
        self._n = len(home)
        self._joints: Floats = home.copy()
        self._grip: Floats | None = None
        self._measured: Floats | None = None
        self._toggled: float | None = None
        self._commanded: Floats | None = None
        self.wish = Wish()
        """What the operator wants now."""
        self.target: Pose | None = self._pose(home)
        """The tool's wanted pose while it is driven; None if the arm's kinematics are not known."""
        self.note = ""

    def start(self, measured: Floats) -> None:
        """Begin where the arm is. A gripper that has not moved keeps its command: it may hold something."""
        place, command, self._commanded = measured[self._n :], self._commanded, None
        same = self._measured is not None and bool((np.abs(place - self._measured[self._n :]) < SAME_GRIP).all())
        if command is not None:
            self._grip = command[self._n :].copy()
        elif self._grip is None or not same:
            self._grip, self._toggled = place.copy(), None
        near = command is not None and bool(np.abs(command - measured)[: self._n].max() < NEAR)
        self._joints = (command if command is not None and near else measured)[: self._n].copy()
        self.target = self._pose(self._joints)

    def go_on_from(self, command: Floats) -> None:
        """The arm was last commanded to `command` (A,), not always by this hand. The next start goes on from there.

        So the arm does not sink back by what it lags, and a gripper that something else closed holds what it holds.
        """
        grip, self._commanded = command[self._n :], command.copy()
        if self._grip is None or (np.abs(grip - self._grip) > SAME_GRIP).any():
            self._toggled = None

    def toggle_gripper(self) -> str:
        """Open a gripper that is closed or closes, close one that is open or opens. Returns why not, or ""."""
        if len(self._limits.lower) == self._n:
            return "this arm has no gripper"
        wanted = self._toggled if self._toggled is not None else float(self._grip[0]) if self._grip is not None else 1.0
        self._toggled = 0.0 if wanted > 0.5 else 1.0
        return ""

    def step(self, measured: Floats, dt: float) -> Motion:
        """The motion after `dt` seconds: towards the wish, within speeds, leash and limits."""
        assert self._grip is not None, "not started"
        before = np.concatenate([self._joints, self._grip])
        joints = self._homeward(dt) if self.wish.goes_home else self._after(measured, dt)
        most = dt * np.minimum(self._config.joint_speed, self._limits.velocity[: self._n])
        self._joints = self._joints + np.clip(joints - self._joints, -most, most)
        self._stay_with_the_arm()
        self._grip = self._gripped(dt)
        self._measured = measured.copy()
        position = np.concatenate([self._joints, self._grip])
        return Motion(position=position, velocity=(position - before) / dt)

    def _homeward(self, dt: float) -> Floats:
        """Joints on the way home; the slowest joint sets the pace, so that all arrive together."""
        way = self._home - self._joints
        farthest = float(np.abs(way).max())
        share = min(1.0, self._config.home_speed * dt / max(farthest, 1e-9))
        joints = self._joints + share * way
        self.target = self._pose(joints)
        return joints

    def _after(self, measured: Floats, dt: float) -> Floats:
        """Joints that follow the moved target."""
        config, wish = self._config, self.wish
        assert self._kinematics is not None and self.target is not None
        if wish.goal is not None:
            step, turn = self.target.way_to(wish.goal)
            moved = self.target.moved(capped(step, config.goal_speed * dt), capped(turn, config.goal_turning * dt))
        else:
            step = config.linear_speed * dt * capped(wish.linear, 1.0)
            moved = self.target.moved(step, config.angular_speed * dt * capped(wish.angular, 1.0))
        at = self._kinematics.pose(measured[: self._n])
        lead, turned = at.way_to(moved)
        if np.linalg.norm(lead) > config.leash_m or np.linalg.norm(turned) > config.leash_rad:
            moved = at.moved(capped(lead, config.leash_m), capped(turned, config.leash_rad))
        self.target = moved
        n, limits = self._n, self._limits
        return solve(
            self._kinematics,
            self._joints,
            moved,
            rest=self._home,
            lower=limits.lower[:n],
            upper=limits.upper[:n],
            turn_weight=1.0 if n >= FULL else LIGHT,
        )

    def _pose(self, joints: Floats) -> Pose | None:
        return None if self._kinematics is None else self._kinematics.pose(joints)

    def _stay_with_the_arm(self) -> None:
        """Where the joints cannot follow, the target stays with them: it must not run away and come back late."""
        reached = self._pose(self._joints)
        if reached is None or self.target is None:
            return
        if self._n < FULL:
            self.target = Pose(position=self.target.position, rotation=reached.rotation)
        step, turn = reached.way_to(self.target)
        if np.linalg.norm(step) > LOST or np.linalg.norm(turn) > TWISTED:
            self.target = reached

    def _gripped(self, dt: float) -> Floats:
        assert self._grip is not None
        if self.wish.grip:
            self._toggled = 1.0 if self.wish.grip > 0 else 0.0
        if self._toggled is None:
            return self._grip
        most = dt * self._config.gripper_speed
        moved = self._grip + np.clip(self._toggled - self._grip, -most, most)
        return np.clip(moved, self._limits.lower[self._n :], self._limits.upper[self._n :])
