"""`emu-robot data encode|export-lerobot|merge key=value ...`

encode: add image codes to a replay buffer, to train a planner on it.
export-lerobot: a replay buffer as a LeRobotDataset v3.
merge: several replay buffers as one.
"""

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
    """Do one of the three; export-lerobot needs the extra [train]."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    command, overrides = sub_verb("data", ("encode", "export-lerobot", "merge"), arguments)
    config = configure(command, overrides)
    if config is None:
        return
    if command == "merge":
        from emu_robot.data.merge import merge

        print(merge(config))
    elif command == "encode":
        from emu_robot.training.tokenizer import encode

        print(encode(config))
    else:
        from emu_robot.data.lerobot import export_lerobot

        export_lerobot(config.buffer, config.out)
