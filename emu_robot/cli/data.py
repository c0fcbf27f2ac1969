"""`emu-robot data encode|export-lerobot|merge key=value ...`

encode: add the codes of a planner's image tokenizer to a replay buffer, to train a planner on it.
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


@dataclass(kw_only=True)
class EncodeConfig:
    """buffer: gets codes_<camera> for every stored image. weights: released name or folder with the tokenizer."""

    buffer: Path = Path("data/demonstrations")
    weights: str = "mini"
    camera: str = "front"


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
        from emu_robot.training.tokenizer import encode_buffer
        from emu_robot.weights import resolve_weights

        encode_buffer(resolve_weights(config.weights), config.buffer, config.camera)
        print(f"{config.buffer}: codes_{config.camera}")
    else:
        from emu_robot.data.lerobot import export_lerobot

        export_lerobot(config.buffer, config.out)
