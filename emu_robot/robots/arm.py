"""What a session of teleoperation needs of an arm, simulated or real. Knows no middleware."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from emu_robot.core import Floats, Image
from emu_robot.robots.limits import MotionLimits
from emu_robot.robots.pose import Pose
from emu_robot.robots.spec import RobotLayout


class Kinematics(Protocol):
    """Where the tool is for given joints."""

    def pose(self, joints: Floats) -> Pose:
        """The tool's pose for joints (J,) [rad]."""
        ...

    def jacobian(self, joints: Floats) -> Floats:
        """(6, J): step [m] and turn [rad] of the tool along the base's axes, per joint [1/rad]."""
        ...


@runtime_checkable
class Arm(Protocol):
    """An arm with one gripper and cameras. Positions (A,) are its joints [rad], then the gripper's opening in [0, 1].

    Only the control loop's thread uses it. Cameras are read in threads of their own: no method waits for one.
    """

    name: str
    """Name of the robot."""
    is_simulated: bool
    """Whether nothing can be hurt: it is then armed without a person's word."""
    layout: RobotLayout
    """Names, units and kinds of the positions."""
    limits: MotionLimits
    """Limits of every dimension."""
    cameras: Mapping[str, tuple[int, int]]
    """Name of each camera -> height and width of its pictures [px]."""
    home: Floats
    """(J,) joints to go home to [rad]."""

    @property
    def kinematics(self) -> Kinematics | None:
        """Where its tool is; None if that is not known: the arm is then driven joint by joint."""
        ...

    def state(self, now: float) -> tuple[Floats, float] | None:
        """The last position (A,), and its age [s]; None before the first."""
        ...

    def pictures(self) -> tuple[Mapping[str, Image], float] | None:
        """The newest picture of each camera, and the time of the oldest of them [s]; None before the first."""
        ...

    def command(self, position: Floats, now: float) -> None:
        """Send targets (A,). They have passed the safety gate."""
        ...

    def close(self) -> None:
        """Let go of the arm and its cameras."""
        ...


@runtime_checkable
class HasOwnUnits(Protocol):
    """An arm whose driver has numbers of its own. Its layout and its recordings hold these."""

    def to_own(self, position: Floats) -> Floats:
        """A position (A,) in the driver's numbers."""
        ...

    def from_own(self, values: Floats) -> Floats:
        """The inverse of `to_own`."""
        ...


@runtime_checkable
class MayBeLost(Protocol):
    """An arm behind a cable. While it is lost, the session gives no commands; a person arms it again."""

    @property
    def lost(self) -> str:
        """Why the arm cannot be reached; empty while it answers."""
        ...

    @property
    def trouble(self) -> str:
        """What else does not work, a camera for instance; empty if all does."""
        ...


@runtime_checkable
class HasOwnGate(Protocol):
    """An arm behind a safety gate of its own, in another process. The session's gate is armed while that one is."""

    @property
    def is_gate_armed(self) -> bool:
        """Whether that gate would follow commands."""
        ...

    def ask_armed(self, wanted: bool) -> None:
        """Ask that gate to be armed, or to brake and be disarmed. Returns at once; the arm's `trouble` tells a no."""
        ...

    def drive(self, actions: Floats | None, *, began_s: float, dt: float) -> None:
        """What the operator wants, at every tick: positions (T, A), `dt` apart [s], the first one `began_s` ago [s];
        None if the deadman is not held, or nothing may move. That gate makes the commands of it."""
        ...


@runtime_checkable
class LaysScenes(Protocol):
    """An arm whose scene can be laid again, as in simulation."""

    def new_scene(self, seed: int, now: float) -> tuple[str, tuple[str, ...]]:
        """Lay the scene of a seed, with the arm at home at once. Returns the instruction and its subtasks."""
        ...


@runtime_checkable
class JudgesTask(Protocol):
    """An arm whose scene knows whether the task is done."""

    @property
    def success(self) -> bool:
        """Whether the instruction of the scene is fulfilled."""
        ...
