"""Control rate, cameras, and meaning of state and action of weights, read from their manifest. Loads no tensor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from emu_robot.errors import ConfigError, EmuRobotError, InvalidValueError, WeightsError
from emu_robot.models.action_head import HeadConfig
from emu_robot.models.weights import read_stage, stage_config
from emu_robot.planner.planner import PlannerConfig
from emu_robot.policy.config import GoalMode
from emu_robot.robots.spec import RobotLayout
from emu_robot.shared.typed import short
from emu_robot.tokenizers.image import ImageTokenizerConfig


@dataclass(frozen=True, kw_only=True)
class HeadContract:
    """Inputs of an action head, and the meaning of its actions."""

    control_hz: int
    """Actions per second [Hz]."""
    cameras: tuple[str, ...]
    """Names of its cameras, the planner's camera first."""
    image_size: int
    """Height and width of every picture [px]."""
    action_horizon: int
    """Actions of a chunk [control ticks]."""
    layout: RobotLayout
    """State and action. Fields that older weights do not say stay open."""
    camera_features: Mapping[str, str] = field(default_factory=dict)
    """Our name of each camera -> its feature in the training set; empty if weights do not say it."""
    goal: GoalMode = GoalMode.PLANNER
    """The mode that goal=auto means: planner, text or none."""

    @classmethod
    def of(cls, folder: Path, config: HeadConfig, extra: Mapping[str, Any]) -> Self:
        """From the configuration and the other values of stage "head". Raises `WeightsError` naming the folder."""
        try:
            layout, hz = RobotLayout.from_dict(extra.get("layout", {})), check_hz(extra.get("control_hz"))
            widths = {"state_dim": len(layout.state_names), "action_dim": len(layout.action_names)}
            for name, width in (widths | {"relative_dims": layout.relative_dims}).items():
                if getattr(config, name) != width:
                    raise InvalidValueError(f"{name} is {getattr(config, name)}, {width} in its layout")
            features = extra.get("camera_features", {})
            if not isinstance(features, dict) or not all(isinstance(name, str) for name in features.values()):
                raise InvalidValueError(f"camera_features is {short(features)}, must name a feature for each camera")
        except EmuRobotError as error:
            raise WeightsError(f"{folder}: stage head does not say its layout and control_hz ({error})") from error
        return cls(
            control_hz=hz,
            cameras=tuple(config.cameras),
            image_size=config.image_size,
            action_horizon=config.action_horizon,
            layout=layout,
            camera_features=features,
            goal=_goal(folder, extra.get("goal", GoalMode.PLANNER.value)),
        )


def check_hz(rate: Any) -> int:
    """A control rate [Hz]. Raises `InvalidValueError` unless it is a whole number in 1..1000."""
    if type(rate) is not int or not 1 <= rate <= 1000:
        raise InvalidValueError(f"control_hz is {short(rate)}, must be a whole number in 1..1000")
    return rate


def _goal(folder: Path, named: Any) -> GoalMode:
    """The goal mode that weights name. Raises `WeightsError` unless it is one that runs without a source of steps."""
    known = [mode.value for mode in GoalMode if mode is not GoalMode.AUTO and not mode.needs_source]
    if named not in known:
        raise WeightsError(f"{folder}: stage head names goal {named!r}, must be one of {', '.join(known)}")
    return GoalMode(named)


def check_steps(n_action_steps: int, action_horizon: int) -> None:
    """Raise `ConfigError` if a chunk has fewer than `n_action_steps` actions."""
    if n_action_steps > action_horizon:
        raise ConfigError(f"n_action_steps is {n_action_steps}; the head predicts {action_horizon}")


def head_contract(folder: Path) -> HeadContract:
    """The contract of the action head in a weights folder. Raises `WeightsError`, `UnknownNameError`."""
    return HeadContract.of(folder, stage_config(folder, "head", HeadConfig), read_stage(folder, "head")["extra"])


def planner_camera(folder: Path) -> tuple[str, int]:
    """The planner's camera, and height and width of its pictures [px]. Raises `WeightsError`, `UnknownNameError`."""
    images = stage_config(folder, "tokenizer", ImageTokenizerConfig)
    return stage_config(folder, "planner", PlannerConfig).camera, images.resolution


def planner_path(folder: Path) -> str:
    """The noise path that the planner was adapted to, "" for none. Raises `WeightsError`, `UnknownNameError`."""
    return stage_config(folder, "planner", PlannerConfig).dida_path
