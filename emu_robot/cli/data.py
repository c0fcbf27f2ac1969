"""`emu-robot data export-lerobot|merge key=value ...`: a replay buffer as a LeRobotDataset v3; several as one."""

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
    """Do one of the two; export-lerobot needs the extra [train]."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    command, overrides = sub_verb("data", ("export-lerobot", "merge"), arguments)
    config = configure(command, overrides)
    if config is None:
        return
    if command == "merge":
        from emu_robot.data.merge import merge

        print(merge(config))
    else:
        from emu_robot.data.lerobot import export_lerobot

        export_lerobot(config.buffer, config.out)
