"""Control rate, cameras, and meaning of state and action of weights, read from their manifest. Loads no tensor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from emu_robot.errors import ConfigError, WeightsError
from emu_robot.models.weights import read_stage
from emu_robot.policy.config import GoalMode
from emu_robot.robots.spec import RobotLayout


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
    def from_stage(cls, folder: Path, config: Mapping[str, Any], extra: Mapping[str, Any]) -> Self:
        """Read the entries of stage "head" in a manifest. Raises `WeightsError` naming the folder."""
        try:
            return cls(
                control_hz=int(extra["control_hz"]),
                cameras=tuple(config["cameras"]),
                image_size=int(config["image_size"]),
                action_horizon=int(config["action_horizon"]),
                layout=RobotLayout.from_dict(extra["layout"]),
                camera_features=dict(extra.get("camera_features", {})),
                goal=_goal(folder, extra.get("goal", GoalMode.PLANNER.value)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{folder}: stage head does not say its layout and control_hz ({error!r})") from error


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
    stage = read_stage(folder, "head")
    return HeadContract.from_stage(folder, stage["config"], stage["extra"])


def planner_camera(folder: Path) -> tuple[str, int]:
    """The planner's camera, and height and width of its pictures [px]. Raises `WeightsError`, `UnknownNameError`."""
    return read_stage(folder, "planner")["config"]["camera"], read_stage(folder, "tokenizer")["config"]["resolution"]


def planner_path(folder: Path) -> str:
    """The noise path that the planner was adapted to, "" for none. Raises `WeightsError`, `UnknownNameError`."""
    return read_stage(folder, "planner")["config"].get("dida_path", "")
