"""The robot that a policy sees: joints, limits, cameras, control rate, and the meaning of state and action."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats32
from emu_robot.errors import ConfigError
from emu_robot.shared.typed import build


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotSpec:
    """A robot with one arm and one gripper.

    State and action are the joints' positions or targets [rad], then the gripper opening in [0, 1], 1 = open.
    """

    name: str
    """Name of the robot."""
    joint_names: tuple[str, ...]
    """Names of the joints; the other lists per joint have this order."""
    joint_lower: tuple[float, ...]
    """Least positions [rad]."""
    joint_upper: tuple[float, ...]
    """Greatest positions [rad]."""
    home: tuple[float, ...]
    """Positions at the start of an episode [rad]."""
    cameras: tuple[str, ...]
    """Names of the cameras."""
    planner_camera: str
    """Name of the camera in whose view subgoals are planned."""
    image_size: int
    """Height and width of every image [px]."""
    control_hz: int
    """Actions per second [Hz]."""

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the state's entries."""
        return (*(f"{joint}.pos" for joint in self.joint_names), "gripper.pos")

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the action's entries."""
        return self.state_names

    @property
    def layout(self) -> "RobotLayout":
        """The joints, then one gripper. Every joint's action is its target."""
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


MOST_DIMENSIONS = 4096
"""Largest number of dimensions of a state or an action."""


class DimensionKind(StrEnum):
    """Kind of a number in a state or action. It determines resampling to another rate, and holding still."""

    position = "position"
    """A present or wanted position."""
    angle = "angle"
    """A position that wraps around after a full turn."""
    rotation = "rotation"
    """One of several numbers of a rotation, such as a quaternion: the mean of two is no rotation."""
    delta = "delta"
    """A motion within one frame. Holding is 0."""
    velocity = "velocity"
    """A speed. Holding is 0."""
    gripper = "gripper"
    """An opening, or a command to open and close. Holding is the last command."""
    discrete = "discrete"
    """A switch or a choice: the mean of two has no meaning."""

    @property
    def is_rate(self) -> bool:
        """Whether 0 means to stay."""
        return self in (DimensionKind.delta, DimensionKind.velocity)


class ActionKind(StrEnum):
    """Meaning of an arm's actions. A gripper's action is always a position between closed and open."""

    TARGET = "target"
    """Absolute positions to reach."""
    DELTA = "delta"
    """Changes from the present position; zeros stay."""
    UNKNOWN = "unknown"
    """Not known; agrees with both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotLayout:
    """Meaning of the numbers of an environment, a dataset or weights: the arm's first, then the grippers'.

    Older data and weights lack the fields that have a default; these are not known then.
    Raises `ConfigError` for more grippers or relative dimensions than names, if there are not as many units, kinds or
    places as names, and for more than `MOST_DIMENSIONS`.
    """

    state_names: tuple[str, ...]
    """Names of the state's entries. Two entries may have the same name."""
    action_names: tuple[str, ...]
    """Names of the action's entries."""
    n_grippers: int
    """Number of the last entries of state and action that are grippers."""
    relative_dims: int
    """Number of the first actions that are targets of the states at the same index; they may be taken relative."""
    state_units: tuple[str, ...] = ()
    """Unit of every entry ("rad", "m", "1" for none); empty if not known."""
    action_units: tuple[str, ...] = ()
    """Unit of every entry; empty if not known."""
    action_kind: ActionKind = ActionKind.UNKNOWN
    """Kind of the arm's actions. In older data, actions with relative dimensions are targets."""
    gripper_open: float | None = None
    """The gripper action that opens; None if not known."""
    gripper_closed: float | None = None
    """The gripper action that closes; None if not known."""
    state_kinds: tuple[DimensionKind, ...] = ()
    """Kind of every entry of the state; empty means positions, then the grippers."""
    action_kinds: tuple[DimensionKind, ...] = ()
    """Kind of every entry of the action; empty means the kind of `action_kind`, then the grippers."""
    state_order: tuple[int, ...] = ()
    """Index of every entry of the state in its original dataset; empty if it is the same. See `robots.order`."""
    action_order: tuple[int, ...] = ()
    """Index of every entry of the action in its original dataset; empty if it is the same."""
    unused_actions: tuple[str, ...] = ()
    """Action dimensions of that dataset that were left out: a robot that needs them cannot be commanded."""

    def __post_init__(self) -> None:
        fewest = min(len(self.state_names), len(self.action_names))
        for name in ("n_grippers", "relative_dims"):
            if not 0 <= getattr(self, name) <= fewest:
                raise ConfigError(f"{name} is {getattr(self, name)}, must lie within state and action, in 0..{fewest}")
        is_delta = self.action_kind is ActionKind.DELTA
        arm = {"state": DimensionKind.position, "action": DimensionKind.delta if is_delta else DimensionKind.position}
        for what in arm:
            n_names = len(getattr(self, f"{what}_names"))
            places = getattr(self, f"{what}_order")
            if n_names > MOST_DIMENSIONS or not all(0 <= place < MOST_DIMENSIONS for place in places):
                raise ConfigError(f"{what} has more than {MOST_DIMENSIONS} dimensions, or places outside")
            usual = [arm[what]] * (n_names - self.n_grippers) + [DimensionKind.gripper] * self.n_grippers
            kinds = tuple(DimensionKind(kind) for kind in getattr(self, f"{what}_kinds") or usual)
            object.__setattr__(self, f"{what}_kinds", kinds)
            for name in ("units", "kinds", "order"):
                entries = getattr(self, f"{what}_{name}")
                if entries and len(entries) != n_names:
                    raise ConfigError(f"{what}_{name} has {len(entries)} entries, {what}_names has {n_names}")

    @property
    def gripper_states(self) -> range:
        """Indices of the grippers in the state."""
        return range(len(self.state_names) - self.n_grippers, len(self.state_names))

    @property
    def rates(self) -> NDArray[np.bool_]:
        """Per action (A,), whether it is a delta or a velocity."""
        return np.array([kind.is_rate for kind in self.action_kinds], np.bool_)

    def hold(self, state: Floats32, *, typical: Floats32, last: Floats32 | None = None) -> Floats32:
        """The action (A,) that stays where the robot is. Deltas and velocities are 0.

        Other entries come from `last` (A,), the last action. Without it, targets and grippers come from `state` (S,),
        and the rest from `typical` (A,).
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
        """Indices of the grippers in the action."""
        return range(len(self.action_names) - self.n_grippers, len(self.action_names))

    def gripper_command(self, opening: float) -> float:
        """The action for an opening in [0, 1], 1 = open; the opening itself if the polarity is not known."""
        if self.gripper_open is None or self.gripper_closed is None:
            return opening
        return self.gripper_closed + opening * (self.gripper_open - self.gripper_closed)

    def differences(self, other: Self) -> dict[str, tuple[Any, Any]]:
        """Field -> both values, for fields that both layouts know and that differ. Unnamed entries fit every name."""
        unsaid = ((), None, ActionKind.UNKNOWN)
        fields = ("state_names", "action_names", "state_units", "action_units")
        pairs = {
            name: (getattr(self, name), getattr(other, name))
            for name in (*fields, "n_grippers", "action_kind", "gripper_open", "gripper_closed")
        }
        for what in ("state", "action"):
            mine, theirs = pairs[f"{what}_names"]
            if len(mine) == len(theirs) and unnamed(what, len(mine)) in (mine, theirs):
                del pairs[f"{what}_names"]
        return {name: (a, b) for name, (a, b) in pairs.items() if a != b and a not in unsaid and b not in unsaid}

    def agrees(self, other: Self) -> bool:
        """Whether the fields that both layouts know are equal."""
        return self.relative_dims == other.relative_dims and not self.differences(other)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `dataclasses.asdict`, also through JSON. Raises `InvalidValueError` naming the wrong field."""
        if isinstance(values, Mapping) and "action_kind" not in values:
            kind = ActionKind.TARGET if values.get("relative_dims") else ActionKind.UNKNOWN
            values = {**values, "action_kind": kind}
        return build(cls, values, "layout")


def unnamed(what: str, n: int) -> tuple[str, ...]:
    """The names of `n` entries whose names are not known; what: "state" or "action"."""
    return tuple(f"unnamed {what} {i}" for i in range(n))


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
