"""Which dimensions of a LeRobotDataset become state and action, in what order, and what each of them is.

What a dimension is comes from the user, else from its name and type, else from how it moves (`settled`). A state is
what is measured, so it is never a delta. Suffixes: T frames, D dimensions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from emu_robot.data.lerobot_files import LeRobotFiles
from emu_robot.errors import ConfigError, UnknownNameError
from emu_robot.robots.spec import DimensionKind

type Floats = NDArray[np.float32]

FOLLOWS, RATES = 0.9, 0.6
"""Correlation from which an action is a target of a state, or its change (which lags behind what is commanded)."""
MOST_FINGERS = 4
"""In a feature; more of them are a hand, whose fingers are joints."""
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
"""Words of a name that say what the dimension is."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One dimension of a feature."""

    feature: str
    index: int
    """In the feature."""
    place: int
    """In the features that are joined."""
    name: str
    whole: bool
    """It holds booleans or integers."""
    kind: DimensionKind | None = None
    """None while it is not known."""
    why: str = "not known"
    """What `kind` was told from, in words."""
    period: float = 0.0
    """Of an angle: a full turn, in the unit of its numbers."""
    wraps: bool = False
    """It goes around at least once."""

    @property
    def path(self) -> str:
        """Its feature and its name, which say it where the name alone stands for several."""
        return self.name if self.name.startswith(f"{self.feature}.") else f"{self.feature}.{self.name}"

    def is_called(self, wanted: str) -> bool:
        """By its name, by feature and name, or by feature and number."""
        return wanted in self._called

    def matches(self, wanted: str) -> bool:
        """It is called so, or so with wildcards."""
        return self.is_called(wanted) or any(fnmatchcase(name, wanted) for name in self._called)

    @property
    def _called(self) -> tuple[str, str, str]:
        return self.name, self.path, f"{self.feature}.{self.index}"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user says of one set's dimensions, as `PrepareConfig` has it."""

    state: Sequence[str]
    action: Sequence[str]
    state_names: Sequence[str] = ()
    action_names: Sequence[str] = ()
    grippers: Sequence[str] = ()
    kinds: Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Dimensions:
    """state, action: in our order, grippers last. n_grippers: how many those are in both. left_out: of the action."""

    state: tuple[Column, ...]
    action: tuple[Column, ...]
    n_grippers: int
    left_out: tuple[str, ...] = ()

    @property
    def n_arm(self) -> int:
        """Actions before the grippers."""
        return len(self.action) - self.n_grippers

    @property
    def unknown(self) -> list[str]:
        """Actions of which nothing says what they are."""
        return [column.path for column in self.action if column.kind is None]

    def settled(self, states: Sequence[Floats], actions: Sequence[Floats], fps: float) -> "Dimensions":
        """With the kind of every dimension that the numbers (T, D) of all episodes tell."""
        state = tuple(_measured(column, [s[:, i] for s in states]) for i, column in enumerate(self.state))
        n_pairs = len(self.state) - self.n_grippers
        action = []
        for i, column in enumerate(self.action):
            values = [a[:, i] for a in actions]
            if column.kind is None and i < min(self.n_arm, n_pairs):
                column = _moving(column, state[i], [s[:, i] for s in states], values, fps)
            action.append(_turning(column, values))
        return replace(self, state=state, action=tuple(action))

    def relative_dims(self, states: Sequence[Floats], actions: Sequence[Floats]) -> int:
        """How many of the first actions are targets of the states in their places: all of the arm's, or none."""
        n_arm, n_states = self.n_arm, len(self.state) - self.n_grippers
        if n_arm > n_states or any((c.kind and c.kind.is_rate) or c.wraps for c in self.action[:n_arm]):
            return 0
        state, action = np.concatenate(states), np.concatenate(actions)
        return n_arm if all(_correlation(state[:, i], action[:, i]) >= FOLLOWS for i in range(n_arm)) else 0


def choose_dimensions(files: LeRobotFiles, wanted: Wanted) -> Dimensions:
    """The dimensions that are asked for (all where no names are given), each with the kind that is known so far.

    Raises `UnknownNameError` for a name that stands in neither feature, `ConfigError` for a name that stands for
    several, for an unknown kind, and for grippers in one feature that the other one lacks.
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
    """With its kind as the user, its name or its type tell it; a wildcard means no gripper."""
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
    """An angle in an action may be a change of it as well: the numbers tell."""
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
    """How many grippers state and action have both; several fingers may stand against one command.

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
    advice = "name those of both by grippers=, or by kinds.discrete= what has no counterpart"
    raise ConfigError(
        f"{counts[0]} grippers in the state, {counts[1]} in the action ({told[0]}; {told[1]}); {advice}; known: {paths}"
    )


def _grippers_last(columns: Sequence[Column], n_grippers: int) -> tuple[Column, ...]:
    """Of several fingers of a gripper the last one stands for it, and the others stay before."""
    hands = [column for column in columns if column.kind is DimensionKind.gripper]
    each = len(hands) // n_grippers if n_grippers else 0
    last = hands[each - 1 :: each] if each else []
    return (*(column for column in columns if column not in last), *last)


def _measured(column: Column, values: Sequence[Floats]) -> Column:
    """A dimension of the state: a position unless it is known otherwise."""
    if column.kind is None:
        column = replace(column, kind=DimensionKind.position, why="it is measured")
    return _turning(column, values)


def _turning(column: Column, values: Sequence[Floats]) -> Column:
    """With a full turn in its unit if it is an angle, which positions that jump by about that much are as well."""
    if column.kind not in (None, DimensionKind.position, DimensionKind.angle):
        return column
    largest = max(float(np.abs(v).max()) for v in values)
    period = 2 * np.pi if largest <= 2 * np.pi + 0.1 else 360.0
    wraps = _wraps(values, period)
    if wraps and column.kind is not DimensionKind.angle:
        column = replace(column, kind=DimensionKind.angle, why="its jumps of a full turn")
    return replace(column, period=period, wraps=wraps) if column.kind is DimensionKind.angle else column


def _wraps(values: Sequence[Floats], period: float) -> bool:
    """Whether numbers that stay within one turn jump from one end of it to the other, and move little otherwise."""
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    steps = np.abs(np.concatenate([np.diff(v) for v in values]))
    jumps = steps > 0.75 * period
    n_values = len(np.unique(np.concatenate([np.unique(v) for v in values])))
    return (
        high - low <= period * 1.01 and n_values > 2 and bool(jumps.any() and steps[~jumps].max(initial=0) < period / 2)
    )


def _moving(
    column: Column, measured: Column, states: Sequence[Floats], actions: Sequence[Floats], fps: float
) -> Column:
    """What an action is by the motion of the state in its place: where that goes, or how it changes."""
    turn = measured.period if measured.wraps else 0.0
    follows = _follows(np.concatenate(states), np.concatenate(actions), turn)
    changes = [_shorter(np.diff(state), turn) for state in states]
    rate, slope = max(_rate(changes, actions, lag) for lag in range(3))
    if rate >= RATES and rate > follows:
        is_speed = fps > 2 and abs(np.log(max(slope, 1e-9) / fps)) < 0.3
        kind = DimensionKind.velocity if is_speed else DimensionKind.delta
        return replace(column, kind=kind, why="the state changes by it")
    if follows >= FOLLOWS:
        kind = measured.kind if measured.kind is DimensionKind.angle else DimensionKind.position
        return replace(column, kind=kind, why="the state follows it")
    return column


def _follows(state: Floats, action: Floats, turn: float) -> float:
    """How well the state stands for the action, 1 at best; both may go around a full turn."""
    if not turn:
        return _correlation(state, action)
    off = _shorter(action - state, turn)
    return 1 - float(off.std() / max(np.unwrap(state, period=turn).std(), 1e-9))


def _rate(changes: Sequence[Floats], actions: Sequence[Floats], lag: int) -> tuple[float, float]:
    """Correlation of actions with the changes of the state `lag` frames later, and how many times larger they are."""
    later = np.concatenate([change[lag:] for change in changes])
    told = np.concatenate([a[: max(len(a) - 1 - lag, 0)] for a in actions])
    if not later.any() or not told.any():
        return 0.0, 0.0
    return _correlation(later, told), float(told @ later / (later @ later))


def _shorter(way: Floats, turn: float) -> Floats:
    """The same way around, at most half a turn."""
    return (way + turn / 2) % turn - turn / 2 if turn else way


def _correlation(a: Floats, b: Floats) -> float:
    """Of two dimensions; 1 where neither changes."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float(len(a) < 2 or np.ptp(a) == np.ptp(b))
    return float(np.corrcoef(a, b)[0, 1])
