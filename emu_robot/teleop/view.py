"""What pages and devices show of a session."""

from collections.abc import Mapping
from dataclasses import dataclass

from emu_robot.control.safety import GateState
from emu_robot.core import Floats, Image
from emu_robot.robots.bodies import Body
from emu_robot.robots.pose import Pose
from emu_robot.teleop.autonomy import DAggerPhase
from emu_robot.teleop.episodes import Phase


@dataclass(frozen=True, kw_only=True)
class View:
    """What pages show after a tick."""

    now: float
    """Time of the tick [s]."""
    position: Floats
    """(A,) measured joints and gripper."""
    tool: Pose | None
    """The tool as measured; None if the arm's kinematics are not known."""
    target: Pose | None
    """Where the operator wants the tool; where it is while it is not driven."""
    joints: tuple[str, ...]
    """Names of the joints that are driven one at a time; empty if the tool is, or a leader moves them."""
    gate: GateState
    """State of the safety gate."""
    reason: str
    """Why nothing moves; empty while the arm is driven."""
    policy: DAggerPhase | None
    """Who has the arm in a session with a policy; None without one."""
    coached: str
    """The subtask in a person's words that the policy shall pursue; empty: the planner's."""
    operator: str | None
    """Who drives; None if the desk is free."""
    number: int
    """Number of the operator's last message that this tick's command took into account."""
    phase: Phase
    """Where the episode is."""
    begins_in_s: float
    """Seconds to the first frame during a countdown."""
    seconds: float
    """Length of the running episode, or the last one [s]."""
    task: str
    """The task in words."""
    subtasks: tuple[str, ...]
    """Its subtasks, as far as they are known."""
    step: int
    """Index of the present one."""
    succeeds: bool
    """Whether the scene says that the task is done."""
    said: str
    """The last thing worth telling."""
    committed: int
    """Episodes that are safe on the disk."""
    pending: int
    """Episodes that are still being written."""
    minutes_left: float
    """Room on the disk, in minutes; infinite without a recorder."""
    pictures: Mapping[str, Image]
    """The newest picture of each camera."""
    bodies: tuple[Body, ...]
    """What can be drawn of arm and scene; empty if the arm does not show it."""
    body_poses: Floats
    """(B, 7) where the bodies are."""

    @property
    def is_driven(self) -> bool:
        """Whether the operator or the policy moves the arm."""
        return not self.reason
