"""The tabletop as a suite: its tasks and the specification of its worlds. MuJoCo is loaded when a world is opened."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar

from emu_robot.environments.contract import CameraSpec, EnvironmentSpec, TaskSpec
from emu_robot.robots.spec import PANDA
from emu_sim.tasks import TASKS

if TYPE_CHECKING:
    from emu_sim.environment import TabletopEnvironment

PROTOCOL = "1"
"""Version of the protocol. It changes with the episode of a seed and with the success rule."""
SPEC = EnvironmentSpec(
    control_hz=PANDA.control_hz,
    cameras={name: CameraSpec(height=PANDA.image_size, width=PANDA.image_size) for name in PANDA.cameras},
    planner_camera=PANDA.planner_camera,
    layout=PANDA.layout,
    success_rule="every subtask has been achieved in order, and the results that no later subtask undoes still hold",
    versions={"tabletop": PROTOCOL, "mujoco": version("mujoco")},
    failure_kinds={
        "wrong object": "an object that the due subtask does not name was grasped, or moved by more than 5 cm",
        "dropped": "the object was grasped and let go without completing the subtask",
        "missed grasp": "the gripper closed and never held anything",
        "no attempt": "the gripper never closed",
    },
)


class TabletopSuite:
    """`emu-robot eval env=tabletop`."""

    spec: ClassVar[EnvironmentSpec] = SPEC
    tasks: ClassVar[Sequence[TaskSpec]] = TASKS
    default_tasks: ClassVar[Sequence[str]] = ("long",)

    def open(self, task: str, split: str) -> "TabletopEnvironment":
        return self.open_mixed([task], split)

    def open_mixed(self, tasks: Sequence[str], split: str) -> "TabletopEnvironment":
        from emu_sim.environment import TabletopEnvironment

        return TabletopEnvironment(tasks, split)
