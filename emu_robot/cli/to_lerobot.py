"""`emu-robot to-lerobot [weights=mini] [out=…]`: weights as a checkpoint for `lerobot-eval --policy.path=…`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emu_robot.cli.options import configure


@dataclass(kw_only=True)
class ToLeRobotConfig:
    """weights: released name or folder; out: the folder of the checkpoint, which stays a weights folder of ours."""

    weights: str = "mini"
    out: Path = Path("outputs/lerobot/mini")


def run(arguments: Sequence[str]) -> None:
    """Write the checkpoint and print where; needs the extra [train]."""
    config = configure("to-lerobot", arguments)
    if config is None:
        return
    from emu_robot.lerobot.checkpoint import to_lerobot

    print(to_lerobot(config.weights, config.out))
