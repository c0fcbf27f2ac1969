"""index.json of a replay buffer: the committed counts. Rows beyond them do not count."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emu_robot.errors import DataError, InvalidValueError
from emu_robot.robots.spec import RobotLayout
from emu_robot.shared.typed import first_line

FORMAT = "emu_robot replay buffer 2"
INDEX = "index.json"
COUNTS = {"episodes": "n_episodes", "frames": "n_frames", "images": "n_images"}
"""Group of arrays -> the key that counts its rows."""


def empty_index(layout: RobotLayout) -> dict[str, Any]:
    """The index of a buffer without episodes, whose dimensions `layout` names."""
    counts = dict.fromkeys(COUNTS.values(), 0) | {"metadata_bytes": 0, "cameras": []}
    return {"format": FORMAT, **counts, "layout": asdict(layout)}


def read_index(path: Path) -> dict[str, Any]:
    """The index of the buffer in the folder `path`. Raises `DataError` naming what is missing or damaged."""
    if not path.exists():
        raise DataError(f"{path}: no such replay buffer")
    if not (path / INDEX).is_file():
        raise DataError(f"{path}: not a replay buffer (no {INDEX})")
    try:
        index = json.loads((path / INDEX).read_text())
        counts = [index[key] for key in (*COUNTS.values(), "metadata_bytes")]
        cameras = index["cameras"]
        RobotLayout.from_dict(index["layout"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, InvalidValueError) as error:
        raise DataError(f"{path / INDEX}: corrupted ({first_line(error)})") from error
    fits = all(isinstance(count, int) and count >= 0 for count in counts) and isinstance(cameras, list)
    if index.get("format") != FORMAT or not fits:
        raise DataError(f"{path / INDEX}: expected format {FORMAT!r} and counts, got {str(index)[:200]}")
    return index
