"""Limits of each dimension of a LeRobot arm, in the units of the arm's own driver. Numpy only."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from emu_robot.core import Floats
from emu_robot.errors import ConfigError, UnknownNameError
from emu_robot.robots.deployment import read_deployment
from emu_robot.robots.limits import MotionLimits

UNITS = {"degrees": 180 / np.pi, "radians": 1.0}
"""Unit of a driver's joints -> units per radian."""
JUMP_SHARE = 0.1
"""Default of the largest jump, as a share of a dimension's range."""
SUFFIX = ".pos"
"""LeRobot's suffix of a motor's position."""


@dataclass(kw_only=True)
class DimensionLimits:
    """Limits of one motor in its driver's own unit: degrees, -100..100, or what `get_observation` gives for it."""

    lower: float | None = None
    """Lowest position; none given takes the robot file's."""
    upper: float | None = None
    """Highest position; none given takes the robot file's."""
    velocity: float | None = None
    """Highest speed, both ways [1/s]; none given takes the robot file's."""
    acceleration: float | None = None
    """Highest acceleration, both ways [1/s^2]; none given takes the robot file's."""
    max_jump: float | None = None
    """Largest distance of an action from the motor's last command; none given takes the gate's, or a tenth of the range
    where no robot file names the motor."""


@dataclass(kw_only=True)
class LimitSettings:
    """Where an arm's limits come from."""

    limits: str = ""
    """Our robot file with the arm's limits (so101, or the path of such a YAML file); empty: others hold all."""
    unit: str = "degrees"
    """Unit of the arm's joints where `limits` is used: degrees (`use_degrees=true`) or radians."""
    gripper_open: float = 100.0
    """The arm's number of an open gripper where `limits` is used; a closed one is 0."""
    grippers: list[str] = field(default_factory=lambda: ["gripper"])
    """Motors that are grippers: limited in position, speed and acceleration, but free to jump and to be stopped by an
    object. Names of other motors are ignored."""
    joints: dict[str, DimensionLimits] = field(default_factory=dict)
    """Limits by motor in the arm's own units; each number overrides that of `limits`."""

    def in_file(self, max_jump: float) -> dict[str, DimensionLimits]:
        """Limits in the robot file, if any. max_jump: of joints [rad]. Raises `EmuRobotError` for a fault in it."""
        if not self.limits:
            return {}
        return read_limits(self.limits, self.unit, self.gripper_open, self.grippers, max_jump)

    def check_unit(self, arm: Any) -> None:
        """Raise `ConfigError` if the limits of the file are angles and the numbers of an arm so configured are not."""
        if self.limits and not getattr(arm, "use_degrees", True):
            raise ConfigError(
                f"the limits of {self.limits} are angles and arm.use_degrees is false: set arm.use_degrees=true, or "
                f'give limits="" and joints={{motor: {{lower, upper, velocity, acceleration}}}} in the arm\'s numbers'
            )


@dataclass(frozen=True, kw_only=True)
class ArmLimits:
    """Limits of an arm, and the numbers that the gate sees for its positions.

    driver's number = gate's number * scale + offset. The scale lets one setting of the gate (a jump, a tracking error)
    fit all joints; the gate sees a gripper's range as 0 to 1.
    """

    names: tuple[str, ...]
    """Names of the arm's (A,) actions, joints first."""
    joints: int
    """Number of joints; the other actions are grippers."""
    motion: MotionLimits
    """Limits of motion, in the driver's units."""
    max_jump: Floats
    """(A,) largest jump, in the driver's units."""
    offset: Floats
    """(A,)."""
    scale: Floats
    """(A,)."""

    def to_gate(self, values: Floats) -> Floats:
        """Positions (A,) in the driver's units -> in the gate's numbers."""
        return (values - self.offset) / self.scale

    def from_gate(self, values: Floats) -> Floats:
        """Positions (A,) in the gate's numbers -> in the driver's units."""
        return values * self.scale + self.offset

    @property
    def scaled(self) -> MotionLimits:
        """The limits of motion in the gate's numbers."""
        motion, scale = self.motion, self.scale
        return MotionLimits(
            lower=self.to_gate(motion.lower),
            upper=self.to_gate(motion.upper),
            velocity=motion.velocity / scale,
            acceleration=motion.acceleration / scale,
        )


def positioned_motors(name: str, actions: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """The motors of an arm with these features. Raises `ConfigError` if it is not driven by positions alone."""
    wrong = [key for key in actions if not key.endswith(SUFFIX) or seen.get(key) is not float]
    if wrong or not actions:
        raise ConfigError(f"{name} is not driven by positions it can measure: {', '.join(wrong) or 'no actions'}")
    return [key.removesuffix(SUFFIX) for key in actions]


def read_limits(
    name_or_path: str, unit: str, gripper_open: float, grippers: Collection[str], max_jump: float
) -> dict[str, DimensionLimits]:
    """Motor -> its limits in a robot file; all `grippers` get those of the file's gripper.

    unit: see UNITS. gripper_open: the driver's number of an open gripper; 0 is closed. max_jump: of joints [rad].
    Raises `UnknownNameError` for the file's or unit's name, `ConfigError` for a wrong value.
    """
    if unit not in UNITS:
        raise UnknownNameError("unit", unit, UNITS)
    if not 0 < gripper_open < np.inf:
        raise ConfigError(f"gripper_open is {gripper_open}, must be positive and finite")
    robot = read_deployment(name_or_path)
    limits, joints = robot.limits, robot.joints.names

    def of(i: int, scale: float, jump: float) -> DimensionLimits:
        return DimensionLimits(**{name: float(value[i]) * scale for name, value in vars(limits).items()}, max_jump=jump)

    found = {name: of(i, UNITS[unit], max_jump * UNITS[unit]) for i, name in enumerate(joints)}
    if len(limits.lower) > len(joints):
        found |= {name: of(len(joints), gripper_open, gripper_open) for name in grippers}
    return found


def arm_limits(
    motors: Collection[str],
    known: Mapping[str, DimensionLimits],
    given: Mapping[str, DimensionLimits],
    grippers: Collection[str],
    max_jump: float,
) -> ArmLimits:
    """The limits of an arm with these motors. `given` ones override the `known` ones of a robot file.

    max_jump: the gate's. Raises `UnknownNameError` for limits of an unknown motor, `ConfigError` for a motor without
    limits.
    """
    for name in (*given, *(name for name in known if name not in grippers)):
        if name not in motors:
            raise UnknownNameError("motor", name, motors)
    joints = [name for name in motors if name not in grippers]
    if not joints:
        raise ConfigError(f"grippers is {', '.join(grippers)}; the arm has no other motor")
    ordered = [*joints, *(name for name in motors if name in grippers)]
    rows = [_complete(name, known.get(name), given.get(name)) for name in ordered]
    columns = {field.name: np.array([row[field.name] for row in rows]) for field in fields(DimensionLimits)}
    jumps = columns.pop("max_jump")
    _check(ordered, {**columns, "max_jump": jumps})
    motion = MotionLimits(**columns)
    is_joint = np.arange(len(ordered)) < len(joints)
    return ArmLimits(
        names=tuple(name + SUFFIX for name in ordered),
        joints=len(joints),
        motion=motion,
        max_jump=jumps,
        offset=np.where(is_joint, 0.0, motion.lower),
        scale=np.where(is_joint, jumps / max_jump, motion.upper - motion.lower),
    )


def _complete(name: str, known: DimensionLimits | None, given: DimensionLimits | None) -> dict[str, float]:
    """All limits of one motor. Raises `ConfigError` if one is missing."""
    values = {**asdict(known or DimensionLimits())}
    values |= {key: value for key, value in asdict(given or DimensionLimits()).items() if value is not None}
    missing = [key for key, value in values.items() if value is None and key != "max_jump"]
    if missing:
        raise ConfigError(
            f"no {', '.join(missing)} is known for the motor {name}: give joints.{name}, or fitting limits"
        )
    if values["max_jump"] is None:
        values["max_jump"] = JUMP_SHARE * (values["upper"] - values["lower"])
    return values


def _check(names: Collection[str], columns: Mapping[str, Floats]) -> None:
    """Raise `ConfigError` naming the first motor with an impossible limit."""
    for i, name in enumerate(names):
        for key, column in columns.items():
            if not np.isfinite(column[i]) or (key not in ("lower", "upper") and column[i] <= 0):
                raise ConfigError(f"joints.{name}.{key} is {column[i]}, must be finite, and positive unless a position")
        if columns["lower"][i] >= columns["upper"][i]:
            raise ConfigError(f"joints.{name}: lower {columns['lower'][i]} is not below upper {columns['upper'][i]}")
