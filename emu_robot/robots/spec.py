"""What a robot is to the policy: joints, limits, cameras, control rate and what state and action mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats32
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


class DimensionKind(StrEnum):
    """What one number of a state or an action is: how it reaches another rate, and what holding still means for it."""

    position = "position"
    """Where something is or is to be."""
    angle = "angle"
    """A position that wraps around after a full turn."""
    rotation = "rotation"
    """One of several numbers that make a rotation together, as a quaternion's: no mean of two is a rotation."""
    delta = "delta"
    """How far to move within one frame. Holding is 0."""
    velocity = "velocity"
    """How fast to move. Holding is 0."""
    gripper = "gripper"
    """An opening, or a command to open and close. Holding is the last command."""
    discrete = "discrete"
    """A switch or a choice: a mean of two has no meaning."""

    @property
    def is_rate(self) -> bool:
        """Whether 0 means to stay."""
        return self in (DimensionKind.delta, DimensionKind.velocity)


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
    Raises `ConfigError` when there are not as many units, kinds or places as names.
    """

    state_names: tuple[str, ...]
    """Of the state's entries. Two may be called the same."""
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
    state_kinds: tuple[DimensionKind, ...] = ()
    """One per entry of the state; none given means positions, then the grippers."""
    action_kinds: tuple[DimensionKind, ...] = ()
    """One per entry of the action; none given means what `action_kind` says, then the grippers."""
    state_order: tuple[int, ...] = ()
    """Where each entry stood in the set it came from; empty: in its place. See `robots.order`."""
    action_order: tuple[int, ...] = ()
    """The same of the action."""
    unused_actions: tuple[str, ...] = ()
    """Dimensions of that set's action that were left out, so that a robot which takes them cannot be commanded."""

    def __post_init__(self) -> None:
        is_delta = self.action_kind is ActionKind.DELTA
        arm = {"state": DimensionKind.position, "action": DimensionKind.delta if is_delta else DimensionKind.position}
        for what in arm:
            n_names = len(getattr(self, f"{what}_names"))
            usual = [arm[what]] * (n_names - self.n_grippers) + [DimensionKind.gripper] * self.n_grippers
            kinds = tuple(DimensionKind(kind) for kind in getattr(self, f"{what}_kinds") or usual)
            object.__setattr__(self, f"{what}_kinds", kinds)
            for name in ("units", "kinds", "order"):
                entries = getattr(self, f"{what}_{name}")
                if entries and len(entries) != n_names:
                    raise ConfigError(f"{what}_{name} has {len(entries)} entries, {what}_names has {n_names}")

    @property
    def gripper_states(self) -> range:
        """Where in the state the grippers are."""
        return range(len(self.state_names) - self.n_grippers, len(self.state_names))

    @property
    def rates(self) -> NDArray[np.bool_]:
        """(A,) which actions are deltas or velocities."""
        return np.array([kind.is_rate for kind in self.action_kinds], np.bool_)

    def hold(self, state: Floats32, *, typical: Floats32, last: Floats32 | None = None) -> Floats32:
        """(A,) the action that stays where the robot is; deltas and velocities are 0.

        All others stay as in `last` (A,), the action before. Without one, targets of states are those in `state` (S,),
        grippers stay as they are there, and what is no target of a state is as in `typical` (A,).
        """
        held = np.array(typical if last is None else last, np.float32)
        if last is None:
            held[: self.relative_dims] = state[: self.relative_dims]
            if self.n_grippers:
                held[-self.n_grippers :] = state[-self.n_grippers :]
        held[self.rates] = 0.0
        return held

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
