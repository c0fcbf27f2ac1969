"""What training with PEFT adapters needs: where they go, and what their checkpoint has to say beside them.

LeRobot stores adapters and config.json alone. Whoever loads them starts from the same weights as the training did and
has to give the head the same shape again; `Fitted`, kept in config.json, says which.
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
"""PyTorch's own attention layers read their weights past any adapter."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a training fits to its set beside the weights. max_words: ids of the longest subtask the planner says."""

    head: HeadConfig
    stats: NormStats
    layout: RobotLayout
    control_hz: int
    max_words: int

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
        """Raises `ConfigError` if something is missing or does not fit."""
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


def default_targets(policy: nn.Module, anew: Iterable[str]) -> dict[str, list[str]]:
    """Adapters on the linear layers of head and planner; trained whole and stored is what starts anew.

    anew: names of the head's parameters.
    """
    whole = sorted({f"head.{name}".rpartition(".")[0] for name in anew})
    linear = [name for name, module in policy.named_modules() if type(module) is nn.Linear]
    parts = ("head.", "world_model.model.layers.")
    left_out = (WITHOUT, *whole)
    targets = [name for name in linear if name.startswith(parts) and not name.startswith(left_out)]
    return {"target_modules": targets, "modules_to_save": whole}
