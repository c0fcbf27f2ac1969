"""Limits of an arm of LeRobot's that a session drives: its calibration, our robot file, the user's own numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emu_robot.control.safety import SafetyConfig
from emu_robot.errors import ConfigError
from emu_robot.lerobot.arm_limits import ArmLimits, DimensionLimits, LimitSettings, arm_limits, positioned_motors
from emu_robot.shared.settings import check_ranges, number

JUMP = SafetyConfig().max_jump
"""Largest jump of a session's gate [rad]."""
GRIPPER_SPEED, GRIPPER_ACCELERATION = 2.0, 20.0
"""Limits of a calibrated gripper, in openings per second [1/s], [1/s^2]."""


@dataclass(kw_only=True)
class DrivenArmConfig(LimitSettings):
    """Our settings of an arm, beside those of its own type."""

    speed: float = number(1.0, 0.05, 6.0)
    """Highest speed of joints that only the calibration limits [rad/s]."""
    acceleration: float = number(5.0, 0.1, 100.0)
    """Highest acceleration of joints that only the calibration limits [rad/s^2]."""
    home: list[float] = field(default_factory=list)
    """Where the joints go home to, in the arm's own numbers; empty: where they are at the start."""
    urdf: Path | None = None
    """The arm's URDF with joints named like its motors: the tool is then driven in space."""
    tool: str = ""
    """Link of the URDF that is driven; empty: the last one, if there is only one."""

    def __post_init__(self) -> None:
        check_ranges(self, "arm")
        jumps = [name for name, limits in self.joints.items() if limits.max_jump is not None]
        if jumps:
            raise ConfigError(f"arm.joints.{jumps[0]}.max_jump has no effect in a session")


def driven_limits(robot: Any, config: DrivenArmConfig) -> ArmLimits:
    """The limits of a robot of LeRobot's, in the units of its driver. The narrower of calibration and file counts.

    The gate's numbers are radians for all motors that have a calibration or are in the file. Raises `EmuRobotError`.
    """
    motors = positioned_motors(robot.name, robot.action_features, robot.observation_features)
    config.check_unit(robot.config)
    known = _narrower(config.in_file(JUMP), _calibrated(robot, config))
    return arm_limits(motors, known, config.joints, config.grippers, JUMP)


def joint_unit(robot: Any, config: DrivenArmConfig) -> str:
    """The unit of the numbers of a robot's joints: "deg", "rad", or "1" for others."""
    if config.limits:
        return {"degrees": "deg", "radians": "rad"}[config.unit]
    motors = getattr(getattr(robot, "bus", None), "motors", {})
    modes = {motor.norm_mode.value for name, motor in motors.items() if name not in config.grippers}
    return "deg" if modes == {"degrees"} else "1"


def without_radians(robot: Any, config: DrivenArmConfig) -> list[str]:
    """Motors whose numbers per radian are not known."""
    known = {**config.in_file(JUMP), **_calibrated(robot, config)}
    motors = positioned_motors(robot.name, robot.action_features, robot.observation_features)
    return [name for name in motors if name not in known and name not in config.grippers]


def _calibrated(robot: Any, config: DrivenArmConfig) -> dict[str, DimensionLimits]:
    """Limits from the ends of the calibration, for a robot with a bus of servos."""
    bus = getattr(robot, "bus", None)
    table = getattr(bus, "model_resolution_table", None)
    if bus is None or table is None:
        return {}
    found: dict[str, DimensionLimits] = {}
    for name, ends in robot.calibration.items():
        motor = bus.motors[name]
        span = (ends.range_max - ends.range_min) * 2 * np.pi / (table[motor.model] - 1)
        lower, upper = _ends(motor.norm_mode.value, span)
        whole = name in config.grippers
        per = (upper - lower) if whole else (upper - lower) / span
        found[name] = DimensionLimits(
            lower=lower,
            upper=upper,
            velocity=per * (GRIPPER_SPEED if whole else config.speed),
            acceleration=per * (GRIPPER_ACCELERATION if whole else config.acceleration),
            max_jump=per if whole else per * JUMP,
        )
    return found


def _ends(mode: str, span: float) -> tuple[float, float]:
    """The numbers at both ends of a motor's range. span: its width [rad]."""
    if mode == "degrees":
        return -float(np.degrees(span)) / 2, float(np.degrees(span)) / 2
    return (-100.0, 100.0) if mode == "range_m100_100" else (0.0, 100.0)


def _narrower(
    file: Mapping[str, DimensionLimits], calibrated: Mapping[str, DimensionLimits]
) -> dict[str, DimensionLimits]:
    """Limits of both: the file's speeds, and positions that are within both."""
    both = {**calibrated, **file}
    for name in file.keys() & calibrated.keys():
        one, other = file[name], calibrated[name]
        assert one.lower is not None and other.lower is not None and one.upper is not None and other.upper is not None
        both[name] = DimensionLimits(
            lower=max(one.lower, other.lower),
            upper=min(one.upper, other.upper),
            velocity=one.velocity,
            acceleration=one.acceleration,
            max_jump=one.max_jump,
        )
    return both
