"""`emu-robot to-lerobot [weights=mini] [out=…]`: write a checkpoint for `lerobot-eval --policy.path=…`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emu_robot.cli.options import configure


@dataclass(frozen=True, kw_only=True)
class ToLeRobotConfig:
    """Settings of the checkpoint."""

    weights: str = "mini"
    """Released name or weights folder."""
    out: Path = Path("outputs/lerobot/mini")
    """Folder of the checkpoint, which is also a weights folder."""


def run(arguments: Sequence[str]) -> None:
    """Write the checkpoint and print its path. Needs the extra [train]."""
    config = configure("to-lerobot", arguments)
    if config is None:
        return
    from emu_robot.lerobot.checkpoint import to_lerobot

    print(f"checkpoint {to_lerobot(config.weights, config.out)}")
