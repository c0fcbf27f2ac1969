"""What a robot is to the policy: joints, limits, cameras, control rate and the named state and action layout."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats32


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


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotLayout:
    """What the numbers of a dataset or of weights mean."""

    state_names: tuple[str, ...]
    """Of each dimension of the state. Two may be called the same."""
    action_names: tuple[str, ...]
    """Of each dimension of the action."""
    n_grippers: int
    """How many of the last entries of state and action are grippers, each command in the place of its measurement."""
    relative_dims: int
    """How many of the first actions are targets of the states in their places, so that they may be taken relative."""
    state_kinds: tuple[DimensionKind, ...] = ()
    """Of each dimension of the state. None given means positions, then the grippers."""
    action_kinds: tuple[DimensionKind, ...] = ()
    """Of each dimension of the action."""
    state_order: tuple[int, ...] = ()
    """Where each dimension stood in the set it came from. None given means in its place; see `robots.order`."""
    action_order: tuple[int, ...] = ()
    """The same of the action."""
    unused_actions: tuple[str, ...] = ()
    """Dimensions of that set's action that were left out, so that a robot which takes them cannot be commanded."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for as many kinds or places as there are no names."""
        for what in ("state", "action"):
            n_names = len(getattr(self, f"{what}_names"))
            usual = [DimensionKind.position] * (n_names - self.n_grippers) + [DimensionKind.gripper] * self.n_grippers
            kinds = tuple(DimensionKind(kind) for kind in getattr(self, f"{what}_kinds") or usual)
            order = getattr(self, f"{what}_order")
            if len(kinds) != n_names or (order and len(order) != n_names):
                raise ValueError(f"{n_names} names of the {what}, but {len(kinds)} kinds and {len(order)} places")
            object.__setattr__(self, f"{what}_kinds", kinds)

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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Of what `dataclasses.asdict` made, be it through JSON. Raises `TypeError`, `KeyError` or `ValueError`."""
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**given)


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
