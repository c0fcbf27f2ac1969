"""Training with PEFT adapters: their places in the policy, and the facts that their checkpoint keeps.

LeRobot stores adapters and config.json alone. Loading starts from the weights of the training and must rebuild its
head; `Fitted`, kept in config.json, describes it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from torch import nn

from emu_robot.errors import ConfigError, EmuRobotError
from emu_robot.models.action_head import HeadConfig
from emu_robot.models.normalize import NormStats
from emu_robot.robots.spec import RobotLayout

WITHOUT = "head.text"
"""Module without adapters: PyTorch's attention layers read their weights directly."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Everything but weights that a training fits to its set."""

    head: HeadConfig
    """Shape of the head."""
    stats: NormStats
    """Statistics that normalise states and actions."""
    layout: RobotLayout
    """Names and kinds of dimensions."""
    control_hz: int
    """Rate of the set [Hz]."""
    max_words: int
    """Most word ids of a planned subtask."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `from_dict` reverses it."""
        return {
            "head": asdict(self.head),
            "stats": self.stats.to_dict(),
            "layout": json.loads(json.dumps(asdict(self.layout))),
            "control_hz": self.control_hz,
            "max_words": self.max_words,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From the JSON values of `to_dict`. Raises `ConfigError` if something is missing or does not fit."""
        try:
            return cls(
                head=HeadConfig(**values["head"]),
                stats=NormStats.from_dict(values["stats"]),
                layout=RobotLayout.from_dict(values["layout"]),
                control_hz=int(values["control_hz"]),
                max_words=int(values["max_words"]),
            )
        except (KeyError, TypeError, ValueError, EmuRobotError) as error:
            raise ConfigError(f"config.json: `fitted` cannot be read ({error!r})") from error


def default_targets(policy: nn.Module, untrained: Iterable[str]) -> dict[str, list[str]]:
    """Adapters go on the linear layers of head and planner; modules with untrained parameters are trained whole.

    untrained: names of the head's parameters that the weights lack.
    """
    whole = sorted({f"head.{name}".rpartition(".")[0] for name in untrained})
    linear = [name for name, module in policy.named_modules() if type(module) is nn.Linear]
    parts = ("head.", "world_model.model.layers.")
    left_out = (WITHOUT, *whole)
    targets = [name for name in linear if name.startswith(parts) and not name.startswith(left_out)]
    return {"target_modules": targets, "modules_to_save": whole}
