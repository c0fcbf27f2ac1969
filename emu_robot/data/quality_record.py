"""The file quality.json beside a prepared set: what the checks found, and of which contents and settings."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emu_robot.data.lerobot_files import EpisodeFiles
from emu_robot.data.quality import SetQuality, Verdict
from emu_robot.errors import ConfigError, DataError
from emu_robot.shared.files import replace_json
from emu_robot.shared.typed import first_line

QUALITY = "quality.json"


def write_quality(folder: Path, found: SetQuality, of: Mapping[str, Any]) -> None:
    """Keep what was found in a set. of: contents and settings, as JSON values."""
    replace_json(folder / QUALITY, {"of": dict(of), **found.to_json()})


def read_quality(folder: Path) -> SetQuality | None:
    """What was found when the set was prepared; None if it was not checked. Raises `DataError` for a damaged file."""
    kept = _read(folder)
    return kept[1] if kept is not None else None


def quality_of(folder: Path, of: Mapping[str, Any], check: Callable[[], SetQuality]) -> SetQuality:
    """What an earlier preparation found in the same contents with the same settings, else the result of `check`."""
    kept = _read(folder)
    return kept[1] if kept is not None and kept[0] == of else check()


def without_faulty(episodes: Sequence[EpisodeFiles], found: SetQuality) -> tuple[list[EpisodeFiles], list[str]]:
    """The episodes that are not EXCLUDE, and a line for each of the others. Raises `ConfigError` if none is left."""
    faulty = {one.index: one.reason for one in found.of(Verdict.EXCLUDE)}
    kept = [episode for episode in episodes if episode.index not in faulty]
    if not kept:
        raise ConfigError(f"leave_out_faulty=true leaves none of {len(episodes)} episodes: all are EXCLUDE")
    return kept, [f"left out: episode {index}, {reason}" for index, reason in faulty.items()]


def told_before_training(folder: Path) -> list[str]:
    """The summary that a training prints of its set."""
    found = read_quality(folder)
    if found is None:
        return [f"quality: {folder} was not checked; emu-robot data check dataset={folder} does it"]
    return found.lines()


def _read(folder: Path) -> tuple[dict[str, Any], SetQuality] | None:
    path = folder / QUALITY
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text())
        return dict(values["of"]), SetQuality.from_json(values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a record of quality checks ({first_line(error)}); remove it") from error
