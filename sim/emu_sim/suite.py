"""The tabletops as suites: tasks, and specifications of the worlds. MuJoCo is loaded when a world is opened."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar

from emu_robot.environments.contract import CameraSpec, EnvironmentSpec, TaskSpec
from emu_robot.robots.spec import PANDA
from emu_sim.grammar import TABLETOP, TABLETOP2, TABLETOP2_FOLD1, Grammar

if TYPE_CHECKING:
    from emu_sim.environment import TabletopEnvironment

PROTOCOL = "1"
"""Version of the protocol. It changes with the episode of a seed and with the success rule."""


SUCCESS_RULE = "every subtask has been achieved in order, and the results that no later subtask undoes still hold"


def spec_of(grammar: Grammar) -> EnvironmentSpec:
    """The description of the worlds of a grammar."""
    return EnvironmentSpec(
        control_hz=PANDA.control_hz,
        cameras={name: CameraSpec(height=PANDA.image_size, width=PANDA.image_size) for name in PANDA.cameras},
        planner_camera=PANDA.planner_camera,
        layout=PANDA.layout,
        success_rule=SUCCESS_RULE,
        versions={grammar.name: PROTOCOL, "mujoco": version("mujoco")},
        failure_kinds={
            "wrong object": "an object that the due subtask does not name was grasped, or moved by more than 5 cm",
            "dropped": "the object was grasped and let go without completing the subtask",
            "missed grasp": "the gripper closed and never held anything",
            "no attempt": "the gripper never closed",
        },
    )


class TabletopSuite:
    """`emu-robot eval env=tabletop`."""

    grammar: ClassVar[Grammar] = TABLETOP
    default_tasks: ClassVar[Sequence[str]] = ("long",)

    @property
    def spec(self) -> EnvironmentSpec:
        return spec_of(self.grammar)

    @property
    def tasks(self) -> Sequence[TaskSpec]:
        return self.grammar.tasks

    def open(self, task: str, split: str) -> "TabletopEnvironment":
        return self.open_mixed([task], split)

    def open_mixed(self, tasks: Sequence[str], split: str) -> "TabletopEnvironment":
        from emu_sim.environment import TabletopEnvironment

        return TabletopEnvironment(tasks, split, grammar=self.grammar)


class Tabletop2Suite(TabletopSuite):
    """`emu-robot eval env=tabletop2`: more shapes, colours, receptacles and families, and a split to choose on."""

    grammar: ClassVar[Grammar] = TABLETOP2


class Tabletop2Fold1Suite(TabletopSuite):
    """`tabletop2` with other kept compositions, to show that a recipe does not depend on them."""

    grammar: ClassVar[Grammar] = TABLETOP2_FOLD1
