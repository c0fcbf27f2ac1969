"""`emu-robot data check`: judge the episodes of a LeRobotDataset or of a replay buffer."""

from dataclasses import dataclass, field, fields
from pathlib import Path

from emu_robot.data.buffer_index import INDEX
from emu_robot.data.lerobot_files import LeRobotFiles
from emu_robot.data.prepare import PrepareConfig, Selection, choose, chosen, locate
from emu_robot.data.quality import QualityConfig, SetQuality
from emu_robot.data.quality_check import check_buffer, check_lerobot
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.shared.files import replace_json


@dataclass(frozen=True, kw_only=True)
class CheckConfig(Selection):
    """Settings of a check."""

    dataset: str = ""
    """Folder of a LeRobotDataset (v2.0, v2.1, v3.0), its id on the hub, or the folder of a replay buffer."""
    quality: QualityConfig = field(default_factory=QualityConfig)
    """Thresholds."""
    out: Path | None = None
    """JSON file for the verdicts, their reasons and the notes; null writes none."""


def check(config: CheckConfig) -> SetQuality:
    """Judge every episode and print all that was found.

    Raises `DataError` for a folder that is no set, `UnknownNameError` for a camera, a dimension or an episode.
    """
    if config.dataset and (Path(config.dataset) / INDEX).exists():
        found = check_buffer(ReplayBuffer.open(config.dataset), config.quality, config.n)
    else:
        files = LeRobotFiles(locate(config.dataset))
        chosen_settings = {setting.name: getattr(config, setting.name) for setting in fields(Selection)}
        settings = PrepareConfig(**chosen_settings, dataset=config.dataset)
        found = check_lerobot(files, chosen(files, settings), choose(files, settings), config.quality, config.workers)
    print("\n".join(found.lines(most=len(found.episodes))))
    if config.out is not None:
        replace_json(config.out, found.to_json())
        print(f"written to {config.out}")
    return found
