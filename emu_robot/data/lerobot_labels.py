"""Columns and files that name the subtasks of a LeRobotDataset; see `lerobot_export` for their meaning."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets.io_utils import write_table_one_row_group_per_episode
from lerobot.datasets.language import LANGUAGE_PERSISTENT

from emu_robot.data.lerobot_features import LANGUAGE_FEATURE
from emu_robot.data.lerobot_files import INFO
from emu_robot.shared.files import replace_json

ROWS = pa.list_(
    pa.struct(
        {
            **dict.fromkeys(("role", "content", "style"), pa.string()),
            "timestamp": pa.float64(),
            **dict.fromkeys(("camera", "tool_calls"), pa.null()),
        }
    )
)
"""Type of the language column: pyarrow cannot fill LeRobot's own, which has JSON in it."""


def language_rows(subtasks: Sequence[str], starts: Sequence[int], fps: int) -> list[dict[str, Any]]:
    """An episode's subtasks as rows of LeRobot's persistent language column. starts: first frame of each."""
    rest = {"camera": None, "tool_calls": None}
    return [
        {"role": "assistant", "content": text, "style": "subtask", "timestamp": float(start / fps), **rest}
        for text, start in zip(subtasks, starts, strict=False)
    ]


def add_language(root: Path, tables: Sequence[Path], language: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """Add the language column after recording, the same rows at every frame, as LeRobot's own annotator does.

    language: rows of each episode of these tables, in order.
    """
    begin = 0
    for path in tables:
        table = pq.read_table(path)
        episode = table.column("episode_index").to_numpy()
        first, last = int(episode[0]), int(episode[-1])
        rows = [language[begin + i - first] for i in episode.tolist()]
        begin += last - first + 1
        column = pa.array(rows, ROWS)
        write_table_one_row_group_per_episode(table.append_column(LANGUAGE_PERSISTENT, column), path)
    info = json.loads((root / INFO).read_text())
    info["features"] |= LANGUAGE_FEATURE
    replace_json(root / INFO, info)


def write_subtasks(root: Path, index: Mapping[str, int]) -> None:
    """Write the table of subtasks. index: words -> `subtask_index`."""
    table = pd.DataFrame({"subtask_index": list(index.values())}, index=pd.Index(list(index)))
    table.rename_axis("subtask").to_parquet(root / "meta/subtasks.parquet")
