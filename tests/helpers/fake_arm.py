"""A planar arm that follows its commands at once, and a recorder that keeps what it gets in memory."""

from collections.abc import Mapping

import numpy as np

from emu_robot.core import Floats, Image, Observation
from emu_robot.errors import DataError
from emu_robot.recording.messages import Frame, Outcome
from emu_robot.robots.arm import Kinematics
from emu_robot.robots.limits import MotionLimits
from emu_robot.robots.pose import Pose, turned
from emu_robot.robots.spec import RobotLayout
from emu_robot.teleop.session import View

JOINTS = 6


class Portal:
    """Three slides and three turns about fixed axes: its inverse kinematics is known."""

    def pose(self, joints: Floats) -> Pose:
        return Pose(position=joints[:3].copy(), rotation=turned(np.array([0, 0, joints[5]])))

    def jacobian(self, joints: Floats) -> Floats:
        jacobian = np.eye(JOINTS)
        jacobian[3, 3] = jacobian[4, 4] = 0.0
        return jacobian


class FakeArm:
    """Follows commands by `share` of the way per command. connected: whether it tells its state."""

    name, is_simulated = "portal", True

    def __init__(self, share: float = 1.0) -> None:
        names = (*(f"joint{i}" for i in range(JOINTS)), "gripper")
        self.layout = RobotLayout(state_names=names, action_names=names, n_grippers=1, relative_dims=JOINTS)
        reach = np.array([1.0] * 3 + [3.0] * 3)
        self.limits = MotionLimits(
            lower=np.append(-reach, 0.0),
            upper=np.append(reach, 1.0),
            velocity=np.full(JOINTS + 1, 4.0),
            acceleration=np.full(JOINTS + 1, 40.0),
        )
        self.cameras: Mapping[str, tuple[int, int]] = {"front": (8, 8)}
        self.home = np.zeros(JOINTS)
        self.kinematics: Kinematics | None = Portal()
        self.share, self.connected = share, True
        self.position = np.append(self.home, 1.0)
        self.commands: list[Floats] = []
        self.scenes: list[int] = []
        self.success = False

    def new_scene(self, seed: int, now: float) -> tuple[str, tuple[str, ...]]:
        self.position = np.append(self.home, 1.0)
        self.scenes.append(seed)
        return f"task {seed}", ("open it", "close it")

    def state(self, now: float) -> tuple[Floats, float] | None:
        return (self.position.copy(), 0.0) if self.connected else None

    def pictures(self) -> tuple[Mapping[str, Image], float] | None:
        return {"front": np.full((8, 8, 3), 99, np.uint8)}, np.inf

    def command(self, position: Floats, now: float) -> None:
        self.commands.append(position.copy())
        self.position = self.position + self.share * (position - self.position)

    def close(self) -> None:
        pass


def tool_of(view: View) -> Pose:
    """The measured tool of an arm with known kinematics."""
    assert view.tool is not None
    return view.tool


def target_of(view: View) -> Pose:
    """The wanted tool of such an arm."""
    assert view.target is not None
    return view.target


class MemoryRecorder:
    """Keeps episodes. fails: whether the next frame finds a full disk."""

    committed, pending, minutes_left = 0, 0, 100.0

    def __init__(self) -> None:
        self.running: list[Frame] | None = None
        self.said: list[tuple[str, ...]] = []
        self.problems: list[str] = []
        self.episodes: list[tuple[str, str, list[Frame]]] = []
        self.fails = False

    def start(self, task: str) -> None:
        self.running = []
        self.said.append(("start", task))

    def add(self, frame: Frame) -> None:
        if self.fails:
            raise DataError("the disk is full")
        assert self.running is not None
        self.running.append(frame)

    def mark(self, subtask: str) -> None:
        self.said.append(("mark", subtask))

    def flag(self, text: str) -> None:
        self.said.append(("flag", text))

    def end(self, outcome: Outcome, cause: str = "") -> None:
        assert self.running is not None
        self.episodes.append((outcome.value, cause, self.running))
        self.running = None
        self.committed += 1

    def discard(self) -> None:
        self.running = None
        self.said.append(("discard",))

    def preflight(self, observation: Observation, ages_s: Mapping[str, float] | None = None) -> list[str]:
        return self.problems

    def close(self) -> None:
        pass
