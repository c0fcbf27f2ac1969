"""`emu-robot data check|encode|export|from-mcap|merge|merge-sets|prepare|repair|view key=value ...`: datasets.

check: judge every episode of a LeRobotDataset or replay buffer: PASS, REVIEW or EXCLUDE, with the reason.
encode: add image codes to a replay buffer, to train a planner on it.
export: write a replay buffer as a LeRobotDataset v3.
from-mcap: write recordings of the ROS 2 graph as a LeRobotDataset v3; recording= may be given several times.
merge: join several replay buffers.
merge-sets: join several LeRobotDatasets of one robot, such as recorded sessions, with their subtasks.
prepare: turn a LeRobotDataset into a replay buffer, cut into subtasks.
repair: recover the episodes of a LeRobotDataset whose recording was killed.
view: a page to watch its episodes, to keep or discard them, and to edit their subtasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from emu_robot.cli.options import configure, sub_verb
from emu_robot.shared.settings import check_ranges, number

COMMANDS = ("check", "encode", "export", "from-mcap", "merge", "merge-sets", "prepare", "repair", "view")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Settings of an export."""

    buffer: Path = Path("data/demonstrations")
    """Replay buffer that `collect` or `prepare` wrote, with images of every frame."""
    out: Path = Path("data/demonstrations_lerobot")
    """Folder of the LeRobotDataset. An earlier export there receives the new episodes."""
    license: str = ""
    """Licence on the dataset card, by its name on the hub; empty: apache-2.0 for data of `collect`, else none."""
    gop: int = number(2, 1)
    """Frames between two pictures that are stored whole."""
    crf: int = number(18, 0, 51)
    """Quality of the videos; 0 is lossless."""
    workers: int = number(2, 1)
    """Worker processes; 1 writes in the calling one."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class MergeSetsConfig:
    """Settings of a merge of LeRobotDatasets."""

    sources: list[Path] = field(default_factory=list)
    """LeRobotDatasets v3 with the same features, at least two."""
    out: Path = Path("data/merged_lerobot")
    """Folder of the new LeRobotDataset with all their episodes, in order."""


@dataclass(frozen=True, kw_only=True)
class RepairConfig:
    """Settings of a repair."""

    dataset: Path = Path("data/demonstrations_lerobot")
    """Folder of a LeRobotDataset v3; it is left as it is."""
    out: str = ""
    """Folder of the repaired set; empty: <dataset>_repaired."""


def run(arguments: Sequence[str]) -> None:
    """Run one of them. All but encode and merge need the extra [train], from-mcap also [ros]."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    command, overrides = sub_verb("data", COMMANDS, arguments)
    overrides = _joined("recording", overrides) if command == "from-mcap" else overrides
    config = configure(command, overrides, f"data {command}")
    if config is None:
        return
    match command:
        case "check":
            from emu_robot.data.check import check

            check(config)
        case "encode":
            from emu_robot.training.tokenizer import encode

            print(encode(config))
        case "export":
            from emu_robot.data.lerobot_export import export_lerobot

            export_lerobot(
                config.buffer,
                config.out,
                license=config.license,
                gop=config.gop,
                crf=config.crf,
                workers=config.workers,
            )
        case "from-mcap":
            from emu_robot.data.from_mcap import from_mcap

            from_mcap(config)
        case "merge":
            from emu_robot.data.merge import merge

            print(merge(config))
        case "merge-sets":
            from emu_robot.data.merge_sets import merge_sets

            print(merge_sets(config.sources, config.out))
        case "prepare":
            from emu_robot.data.prepare import prepare

            prepare(config)
        case "repair":
            from emu_robot.data.repair import repair

            repair(config.dataset, config.out)
        case "view":
            from emu_robot.data.view_server import view

            view(config)


def _joined(key: str, overrides: Sequence[str]) -> list[str]:
    """All values of a list's key as one override."""
    values = [word.removeprefix(f"{key}=") for word in overrides if word.startswith(f"{key}=")]
    others = [word for word in overrides if not word.startswith(f"{key}=")]
    return [*others, f"{key}={','.join(values)}"] if values else others
