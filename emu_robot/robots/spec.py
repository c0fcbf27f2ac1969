"""What a robot is to the policy: joints, limits, cameras, control rate and the named state and action layout."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotSpec:
    """Names and limits, all per joint in the order of `joint_names`.

    state and action layout: the joints' positions (targets) [rad], then the gripper opening in [0, 1], 1 = open.
    """

    name: str
    joint_names: tuple[str, ...]
    joint_lower: tuple[float, ...]
    joint_upper: tuple[float, ...]
    home: tuple[float, ...]
    cameras: tuple[str, ...]
    planner_camera: str
    image_size: int
    control_hz: int

    @property
    def state_names(self) -> tuple[str, ...]:
        return (*(f"{joint}.pos" for joint in self.joint_names), "gripper.pos")

    @property
    def action_names(self) -> tuple[str, ...]:
        return self.state_names

    @property
    def layout(self) -> "RobotLayout":
        """Joints, then one gripper; every joint's action is its target."""
        return RobotLayout(
            state_names=self.state_names,
            action_names=self.action_names,
            n_grippers=1,
            relative_dims=len(self.joint_names),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotLayout:
    """What the numbers of a dataset or of weights mean.

    n_grippers: how many of the last entries of state and action are grippers. relative_dims: how many of the first
    actions are targets of the states in their places, so that they may be taken relative to them.
    """

    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    n_grippers: int
    relative_dims: int

    @property
    def gripper_states(self) -> range:
        """Where in the state the grippers are."""
        return range(len(self.state_names) - self.n_grippers, len(self.state_names))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Of what `dataclasses.asdict` made, be it through JSON. Raises `TypeError` or `KeyError`."""
        names = {name: tuple(values[name]) for name in ("state_names", "action_names")}
        return cls(**{**values, **names})


PANDA = RobotSpec(
    name="panda",
    joint_names=tuple(f"joint{i}" for i in range(1, 8)),
    # Position limits: Franka Emika Robot datasheet, as in the Menagerie model that gym-hil installs.
    joint_lower=(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
    joint_upper=(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
    # Gripper pointing down, behind the workspace as the front camera sees it.
    home=(0.0, -0.55, 0.0, -2.65, 0.0, 2.10, 0.785),
    cameras=("front", "wrist"),
    planner_camera="front",
    image_size=128,
    control_hz=20,
)

ROBOTS = {PANDA.name: PANDA}
