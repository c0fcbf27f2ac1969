"""What a robot is to the policy: joints, limits, cameras, control rate and what state and action mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from emu_robot.errors import ConfigError


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
            state_units=(*["rad"] * len(self.joint_names), "1"),
            action_units=(*["rad"] * len(self.joint_names), "1"),
            action_kind=ActionKind.TARGET,
            gripper_open=1.0,
            gripper_closed=0.0,
        )


class ActionKind(StrEnum):
    """What an arm's actions ask for; a gripper's action is always a position between closed and open."""

    TARGET = "target"
    """Absolute positions to be reached."""
    DELTA = "delta"
    """Changes from the present position; zeros stay."""
    UNKNOWN = "unknown"
    """Not said; fits both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotLayout:
    """What the numbers of an environment, a dataset or weights mean: the arm's first, then the grippers'.

    The fields with a default are absent from older data and weights, which then say nothing about them.
    Raises `ConfigError` when there are not as many units as names.
    """

    state_names: tuple[str, ...]
    """Of the state's entries."""
    action_names: tuple[str, ...]
    """Of the action's entries."""
    n_grippers: int
    """How many of the last entries of state and action are grippers."""
    relative_dims: int
    """How many of the first actions are targets of the states in their places, so that they may be taken relative."""
    state_units: tuple[str, ...] = ()
    """One per entry ("rad", "m", "1" for none); empty: not said."""
    action_units: tuple[str, ...] = ()
    """One per entry; empty: not said."""
    action_kind: ActionKind = ActionKind.UNKNOWN
    """Of the arm's actions. Where it is absent, actions with relative dimensions are targets."""
    gripper_open: float | None = None
    """The gripper action that opens; None: not said."""
    gripper_closed: float | None = None
    """The gripper action that closes; None: not said."""

    def __post_init__(self) -> None:
        for what in ("state", "action"):
            names, units = getattr(self, f"{what}_names"), getattr(self, f"{what}_units")
            if units and len(units) != len(names):
                raise ConfigError(f"{what}_units has {len(units)} entries, {what}_names has {len(names)}")

    @property
    def gripper_states(self) -> range:
        """Where in the state the grippers are."""
        return range(len(self.state_names) - self.n_grippers, len(self.state_names))

    @property
    def gripper_actions(self) -> range:
        """Where in the action the grippers are."""
        return range(len(self.action_names) - self.n_grippers, len(self.action_names))

    def gripper_command(self, opening: float) -> float:
        """The action of an opening in [0, 1], 1 = open; the opening itself where the layout does not say."""
        if self.gripper_open is None or self.gripper_closed is None:
            return opening
        return self.gripper_closed + opening * (self.gripper_open - self.gripper_closed)

    def differences(self, other: Self) -> dict[str, tuple[Any, Any]]:
        """Field -> both values, where both layouts say something and it is not the same."""
        unsaid = ((), None, ActionKind.UNKNOWN)
        fields = ("state_names", "action_names", "state_units", "action_units")
        pairs = {
            name: (getattr(self, name), getattr(other, name))
            for name in (*fields, "n_grippers", "action_kind", "gripper_open", "gripper_closed")
        }
        return {name: (a, b) for name, (a, b) in pairs.items() if a != b and a not in unsaid and b not in unsaid}

    def agrees(self, other: Self) -> bool:
        """Whether both say the same, where both say something."""
        return self.relative_dims == other.relative_dims and not self.differences(other)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what `dataclasses.asdict` made, also through JSON. Raises `TypeError`, `KeyError` or `ValueError`."""
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list | tuple)}
        kind = values.get("action_kind", ActionKind.TARGET if values["relative_dims"] else ActionKind.UNKNOWN)
        return cls(**{**values, **lists, "action_kind": ActionKind(kind)})


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
