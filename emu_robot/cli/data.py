"""`emu-robot data export-lerobot buffer=… out=…`: a replay buffer as a LeRobotDataset v3."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emu_robot.cli.options import configure, sub_verb


@dataclass(kw_only=True)
class ExportConfig:
    """buffer: a replay buffer that `collect` wrote; out: the folder of the new dataset."""

    buffer: Path = Path("data/demonstrations")
    out: Path = Path("data/demonstrations_lerobot")


def run(arguments: Sequence[str]) -> None:
    """Export; needs the extra [train]."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    _, overrides = sub_verb("data", ("export-lerobot",), arguments)
    config: ExportConfig | None = configure("export-lerobot", overrides)
    if config is None:
        return
    from emu_robot.data.lerobot import export_lerobot

    export_lerobot(config.buffer, config.out)
