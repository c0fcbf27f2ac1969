"""Choose the dimensions of a LeRobotDataset that become state and action, their order and their kinds.

A kind comes from the user, else from name and type, else from motion (`settled`). A state is measured, so it is never a
delta. Suffixes: T frames, D dimensions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from emu_robot.core import Floats32
from emu_robot.data.columns import Column
from emu_robot.data.dimension_motion import FOLLOWS, correlation, measured, moving, turning
from emu_robot.data.lerobot_files import LeRobotFiles
from emu_robot.errors import ConfigError, UnknownNameError
from emu_robot.robots.spec import DimensionKind

MOST_FINGERS = 4
"""Most gripper fingers of a feature; more of them are a hand, whose fingers are joints."""
GRIPPER, FINGER = re.compile(r"gripper|^grip|[._ -]grip|claw|jaw"), re.compile(r"finger")
_D = re.compile(r"d(x|y|z|r|p|rx|ry|rz|roll|pitch|yaw|theta|pos)")
WORDS: dict[DimensionKind, frozenset[str]] = {
    DimensionKind.delta: frozenset({"delta", "deltas", "rel", "relative", "diff", "increment"}),
    DimensionKind.velocity: frozenset(
        {"vel", "velocity", "velocities", "speed", "twist", "omega", "qvel", "linvel", "angvel"}
        | {"vx", "vy", "vz", "wx", "wy", "wz"}
    ),
    DimensionKind.rotation: frozenset({"qx", "qy", "qz", "qw", "quat", "quaternion", "rot6d", "rotmat"}),
    DimensionKind.angle: frozenset(
        {"roll", "pitch", "yaw", "heading", "theta", "phi", "psi", "angle", "euler", "rx", "ry", "rz"}
    ),
}
"""Kind -> words in a dimension's name that mean it."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The user's choice of dimensions; see `PrepareConfig`."""

    state: Sequence[str]
    action: Sequence[str]
    state_names: Sequence[str] = ()
    action_names: Sequence[str] = ()
    grippers: Sequence[str] = ()
    kinds: Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Dimensions:
    """The chosen dimensions in our order."""

    state: tuple[Column, ...]
    """Dimensions of the state, grippers last."""
    action: tuple[Column, ...]
    """Dimensions of the action, grippers last."""
    n_grippers: int
    """Grippers at the end of both."""
    left_out: tuple[str, ...] = ()
    """Dimensions of the set's action that are left out."""

    @property
    def n_arm(self) -> int:
        """Actions before the grippers."""
        return len(self.action) - self.n_grippers

    @property
    def unknown(self) -> list[str]:
        """Actions of unknown kind."""
        return [column.path for column in self.action if column.kind is None]

    def settled(self, states: Sequence[Floats32], actions: Sequence[Floats32], fps: float) -> "Dimensions":
        """These dimensions, with every kind that the numbers (T, D) of all episodes show."""
        state = tuple(measured(column, [s[:, i] for s in states]) for i, column in enumerate(self.state))
        n_pairs = len(self.state) - self.n_grippers
        action = []
        for i, column in enumerate(self.action):
            values = [a[:, i] for a in actions]
            if column.kind is None and i < min(self.n_arm, n_pairs):
                column = moving(column, state[i], [s[:, i] for s in states], values, fps)
            action.append(turning(column, values))
        return replace(self, state=state, action=tuple(action))

    def relative_dims(self, states: Sequence[Floats32], actions: Sequence[Floats32]) -> int:
        """Number of leading actions that are targets of the states in their places: all of the arm's, or none."""
        n_arm, n_states = self.n_arm, len(self.state) - self.n_grippers
        if n_arm > n_states or any((c.kind and c.kind.is_rate) or c.wraps for c in self.action[:n_arm]):
            return 0
        state, action = np.concatenate(states), np.concatenate(actions)
        return n_arm if all(correlation(state[:, i], action[:, i]) >= FOLLOWS for i in range(n_arm)) else 0


def choose_dimensions(files: LeRobotFiles, wanted: Wanted) -> Dimensions:
    """The wanted dimensions (all where no names are given), each with the kind that is known so far.

    Raises `UnknownNameError` for an unknown kind or a name in neither feature, `ConfigError` for an ambiguous name and
    for grippers in one feature that the other lacks.
    """
    known = {what: _columns(files, getattr(wanted, what)) for what in ("state", "action")}
    both = [*known["state"], *known["action"]]
    for kind in wanted.kinds:
        if kind not in set(DimensionKind) - {DimensionKind.gripper}:
            raise UnknownNameError("kind (grippers have a key of their own)", kind, [*DimensionKind])
    for name in (*wanted.grippers, *(name for names in wanted.kinds.values() for name in names)):
        if not any(column.matches(name) for column in both):
            raise UnknownNameError(f"dimension of {files.root}", name, dict.fromkeys(column.name for column in both))
    kept = {what: _kept(files, known[what], getattr(wanted, f"{what}_names")) for what in known}
    state, action = ([_told(c, what == "state", columns, wanted) for c in columns] for what, columns in kept.items())
    n_grippers = _pairs(state, action)
    chosen = {(column.feature, column.index) for column in action}
    return Dimensions(
        state=_grippers_last(state, n_grippers),
        action=_grippers_last(action, n_grippers),
        n_grippers=n_grippers,
        left_out=tuple(c.path for c in known["action"] if (c.feature, c.index) not in chosen),
    )


def _columns(files: LeRobotFiles, features: Sequence[str]) -> list[Column]:
    dimensions = [(feature, i, name) for feature in features for i, name in enumerate(files.names(feature))]
    return [
        Column(feature=feature, index=i, place=place, name=name, whole=files.holds_whole_numbers(feature))
        for place, (feature, i, name) in enumerate(dimensions)
    ]


def _kept(files: LeRobotFiles, known: Sequence[Column], names: Sequence[str]) -> list[Column]:
    kept = []
    for name in names:
        found = [column for column in known if column.is_called(name)]
        if not found:
            features = ", ".join(dict.fromkeys(column.feature for column in known))
            raise UnknownNameError(f"dimension of {features} in {files.root}", name, [c.name for c in known])
        if len(found) > 1:
            told = ", ".join(f"{column.feature}.{column.index}" for column in found)
            raise ConfigError(f"{files.root}: {name!r} stands for several dimensions; say which: {told}")
        kept += found
    return kept or list(known)


def _told(column: Column, is_state: bool, columns: Sequence[Column], wanted: Wanted) -> Column:
    """The column with the kind that the user, its name or its type gives; wildcards in `kinds` leave grippers alone."""
    if any(column.matches(name) for name in wanted.grippers):
        return replace(column, kind=DimensionKind.gripper, why="grippers=")
    meant = [kind for kind, names in wanted.kinds.items() if any(column.is_called(name) for name in names)]
    if not meant and not wanted.grippers and _is_gripper(column.name, [c.name for c in columns]):
        return replace(column, kind=DimensionKind.gripper, why="its name")
    meant += [kind for kind, names in wanted.kinds.items() if any(column.matches(name) for name in names)]
    for kind in meant:
        if not (is_state and kind == DimensionKind.delta):
            return replace(column, kind=DimensionKind(kind), why=f"kinds.{kind}=")
    named = _by_name(column.name, is_state)
    if column.whole and named is not DimensionKind.delta:
        return replace(column, kind=DimensionKind.discrete, why="its type")
    return replace(column, kind=named, why="its name") if named else column


def _by_name(name: str, is_state: bool) -> DimensionKind | None:
    """The kind in a name. None for an angle in an action: it may be a change of one, which the numbers show."""
    words = [word for word in re.split(r"[^a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()) if word]
    words += [word.rstrip("0123456789") for word in words]
    is_place = bool({"pos", "position", "target"} & set(words))
    for kind, known in WORDS.items():
        is_delta = kind is DimensionKind.delta
        if known & set(words) or (is_delta and any(_D.fullmatch(word) for word in words)):
            is_open = is_delta if is_state else kind is DimensionKind.angle and not is_place
            return None if is_open else kind
    return DimensionKind.position if is_place else None


def _is_gripper(name: str, names: Sequence[str]) -> bool:
    if FINGER.search(name.lower()):
        return sum(bool(FINGER.search(other.lower())) for other in names) <= MOST_FINGERS
    return bool(GRIPPER.search(name.lower()))


def _pairs(state: Sequence[Column], action: Sequence[Column]) -> int:
    """Number of grippers in both state and action; several fingers may match one command.

    Raises `ConfigError` if one feature has grippers and the other one has none, or if their numbers do not fit.
    """
    counts = [sum(c.kind is DimensionKind.gripper for c in columns) for columns in (state, action)]
    low, high = sorted(counts)
    if low == high or (low and high % low == 0):
        return low
    told = [
        ", ".join(c.path for c in columns if c.kind is DimensionKind.gripper) or "none" for columns in (state, action)
    ]
    paths = ", ".join(c.path for c in (*state, *action))
    advice = "name those of both by grippers=, and those without a counterpart by kinds.discrete="
    raise ConfigError(
        f"{counts[0]} grippers in the state, {counts[1]} in the action ({told[0]}; {told[1]}); {advice}; known: {paths}"
    )


def _grippers_last(columns: Sequence[Column], n_grippers: int) -> tuple[Column, ...]:
    """The columns, grippers last. The last finger of a gripper stands for it; its other fingers stay before."""
    hands = [column for column in columns if column.kind is DimensionKind.gripper]
    each = len(hands) // n_grippers if n_grippers else 0
    last = hands[each - 1 :: each] if each else []
    return (*(column for column in columns if column not in last), *last)
