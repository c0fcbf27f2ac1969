"""Training with PEFT adapters: their places in the policy, and the facts that their checkpoint keeps.

LeRobot stores adapters and config.json alone. Loading starts from the weights of the training and must rebuild its
head; `Fitted`, kept in config.json, describes it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from torch import nn

from emu_robot.errors import ConfigError, EmuRobotError
from emu_robot.models.action_head import HeadConfig
from emu_robot.models.normalize import NormStats
from emu_robot.policy.weights_contract import check_hz
from emu_robot.robots.spec import RobotLayout
from emu_robot.shared.settings import check_ranges, number
from emu_robot.shared.typed import build

FITTED = ("cameras", "state_dim", "action_dim", "relative_dims", "text_length", "action_horizon")
"""Values of a head that a training fits to its set; all others are those of the weights that it starts from."""
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
    def from_dict(cls, values: Mapping[str, Any], started: HeadConfig) -> Self:
        """From the JSON values of `to_dict`. started: the head whose training it was.

        Raises `ConfigError` if something is missing or does not fit.
        """
        try:
            parts = build(_Parts, values, "fitted")
            head, stats = parts.head, NormStats.from_dict(parts.stats)
            for name in (field.name for field in fields(head) if field.name not in FITTED):
                if (value := getattr(head, name)) != (known := getattr(started, name)):
                    raise ConfigError(f"head: {name} is {value}, {known} in the weights")
            stats.check_fit(head.state_dim, (head.action_horizon, head.action_dim), head.keyposes)
            layout = RobotLayout.from_dict(parts.layout)
            check_hz(parts.control_hz)
        except EmuRobotError as error:
            raise ConfigError(f"config.json: `fitted` cannot be read ({error})") from error
        return cls(head=head, stats=stats, layout=layout, control_hz=parts.control_hz, max_words=parts.max_words)


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """The JSON values of `Fitted.to_dict`."""

    head: HeadConfig
    stats: dict[str, Any]
    layout: dict[str, Any]
    control_hz: int
    max_words: int = number(1, 1, 2**12)

    def __post_init__(self) -> None:
        check_ranges(self)


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
