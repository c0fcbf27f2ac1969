"""Merge LeRobotDatasets v3 of one robot, such as recorded sessions, with their subtasks and records.

LeRobot merges tables and videos, and would leave each `subtask_index` without its words.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets.aggregate import aggregate_datasets
from lerobot.datasets.io_utils import write_table_one_row_group_per_episode

from emu_robot.data.labels import UNMARKED
from emu_robot.data.lerobot_export import VIDEO_FILE_MB, quiet
from emu_robot.data.lerobot_files import LeRobotFiles
from emu_robot.data.lerobot_labels import write_subtasks
from emu_robot.data.session_folder import RECORD, episode_records
from emu_robot.errors import DataError, InvalidValueError
from emu_robot.shared.files import disk_full_as_setup_error, make_readable, replace_text, require_disk_space
from emu_robot.shared.typed import first_line


def merge_sets(sources: Sequence[Path], out: Path) -> Path:
    """Write the episodes of all sources, in order, as the set `out`, which appears when it is complete; return it.

    Raises `DataError` if `out` exists, a source is missing, or rates, robots or features differ; `SystemSetupError`
    for a full disk.
    """
    if len(sources) < 2:
        raise InvalidValueError(f"{len(sources)} sources to merge; give sources=DATASET,DATASET")
    if out.exists():
        raise DataError(f"{out}: already exists; merge into a new path")
    sets = [LeRobotFiles(source) for source in sources]
    require_disk_space(out, sum(file.stat().st_size for source in sources for file in source.rglob("*")))
    partial = out.with_name(f"{out.name}.merging")
    shutil.rmtree(partial, ignore_errors=True)
    ids = [f"local/{source.resolve().name}" for source in sources]
    try:
        with disk_full_as_setup_error(out), quiet():
            aggregate_datasets(
                ids, f"local/{out.name}", roots=list(sources), aggr_root=partial, video_files_size_in_mb=VIDEO_FILE_MB
            )
            _rename_subtasks(partial, sets)
            _join_records(partial, sets)
            make_readable(partial)
            partial.replace(out)
    except ValueError as error:  # LeRobot's for sets that differ
        raise DataError(f"{out}: the sources do not fit each other ({first_line(error)})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _rename_subtasks(root: Path, sets: Sequence[LeRobotFiles]) -> None:
    """Give every subtask one index in the whole set."""
    index: dict[str, int] = {}
    for files in sets:
        for text in files.subtasks.values():
            index.setdefault(text, len(index))
    if not index:
        return
    tables = [
        {old: index[text] for old, text in files.subtasks.items()} for files in sets for _ in files.episodes
    ]  # one per episode of the whole set
    for path in sorted((root / "data").rglob("*.parquet")):
        table = pq.read_table(path)
        pairs = zip(table.column("episode_index").to_pylist(), table.column("subtask_index").to_pylist(), strict=True)
        renamed = pa.array(np.array([tables[i].get(old, UNMARKED) for i, old in pairs], np.int64))
        at = table.column_names.index("subtask_index")
        write_table_one_row_group_per_episode(table.set_column(at, "subtask_index", renamed), path)
    write_subtasks(root, index)


def _join_records(root: Path, sets: Sequence[LeRobotFiles]) -> None:
    lines, n_before = [], 0
    for files in sets:
        for record in episode_records(files.root):
            shifted = record | {"episode_index": record["episode_index"] + n_before}
            lines.append(json.dumps(shifted, ensure_ascii=False))
        n_before += len(files.episodes)
    if lines:
        replace_text(root / RECORD, "".join(f"{line}\n" for line in lines))
