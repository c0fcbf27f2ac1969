"""Recover a LeRobotDataset v3 whose recording was killed: the longest prefix of whole episodes becomes a new set.

Such a set may lack footers of its tables, all metadata of its last episodes, or parts of its videos. Metadata and
statistics are computed again, and written by LeRobot's own writer of metadata.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lerobot.datasets.compute_stats import auto_downsample_height_width, compute_episode_stats, get_feature_stats
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.feature_utils import get_hf_features_from_features
from lerobot.datasets.io_utils import write_table_one_row_group_per_episode

from emu_robot.core import Image
from emu_robot.data.damaged_set import DamagedSet, WholeEpisode
from emu_robot.data.lerobot_files import LANGUAGE, LeRobotFiles
from emu_robot.data.session_folder import RECORD
from emu_robot.errors import DataError
from emu_robot.shared.files import disk_full_as_setup_error, link_or_copy, make_readable, replace_text, sync_folder

EMPTY: dict[str, Any] = {"image": {"bytes": b"-", "path": "-"}, "string": "-", "bool": False}


def repair(dataset: Path, out: str = "") -> Path:
    """Write the whole episodes of `dataset` as the new set `out`; return its path, or `dataset` if nothing is broken.

    out: empty means <dataset>_repaired. Prints how many episodes were recovered, and why no more. `dataset` stays as it
    is; the two may share the files of videos. Raises `DataError` if no episode is whole, info.json or the tasks cannot
    be read, or `out` exists; `SystemSetupError` for a full disk.
    """
    dataset = Path(dataset)
    target = Path(out) if out else dataset.with_name(f"{dataset.resolve().name}_repaired")
    damaged = DamagedSet(dataset)
    if target.exists():
        raise DataError(f"{target}: already exists; choose a new path with out=")
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_full_as_setup_error(target):
            n_whole = _write(damaged, partial)
            if not n_whole:
                raise DataError(f"{dataset}: no episode is whole ({damaged.end or 'there is no table of frames'})")
            if not damaged.end and _is_sound(damaged, n_whole):
                print(f"{dataset}: all {n_whole} episodes are whole, nothing to repair")
                return dataset
            make_readable(partial)
            sync_folder(partial)
            partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    known = max(n_whole, len(damaged.told), int(damaged.info.get("total_episodes") or 0))
    why = f"; {damaged.end}" if damaged.end else ""
    print(f"{target}: recovered {n_whole} of at least {known} episodes{why}")
    return target


def _is_sound(damaged: DamagedSet, n_whole: int) -> bool:
    """Whether the metadata agree with the whole episodes, all of which were found."""
    try:
        files = LeRobotFiles(damaged.root)
    except DataError:
        return False
    return len(files.episodes) == n_whole == damaged.info.get("total_episodes") == len(damaged.told)


def _write(damaged: DamagedSet, root: Path) -> int:
    """Write the whole episodes as a set; return how many there are."""
    info = damaged.info
    meta = LeRobotDatasetMetadata.create(
        f"local/{root.name}",
        fps=int(info["fps"]),
        features=damaged.features,
        robot_type=info.get("robot_type"),
        root=root,
        use_videos=info.get("video_path") is not None,
        chunks_size=info.get("chunks_size"),
        data_files_size_in_mb=info.get("data_files_size_in_mb"),
        video_files_size_in_mb=info.get("video_files_size_in_mb"),
    )
    meta.save_episode_tasks([damaged.tasks[k] for k in sorted(damaged.tasks)])
    tables: dict[Path, list[pa.Table]] = {}
    n_whole = 0
    for one in damaged.whole_episodes(_pattern(damaged.features)):
        tables.setdefault(one.table, []).append(one.rows)
        meta.save_episode(one.index, len(one.rows), one.tasks, _stats(damaged, one), _place(damaged, one))
        for path in {path for path, _ in one.videos.values()}:
            copy = root / path.relative_to(damaged.root)
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(path, copy)
        n_whole += 1
    meta.finalize()
    for path, rows in tables.items():
        copy = root / path.relative_to(damaged.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_table_one_row_group_per_episode(pa.concat_tables(rows), copy)
    _copy_labels(damaged.root, root, n_whole)
    return n_whole


def _pattern(features: dict[str, dict[str, Any]]) -> pa.Table:
    """One row as LeRobot's writer of frames makes it: without language, which is added to closed files."""
    written = {key: feature | {"shape": tuple(feature["shape"])} for key, feature in features.items()}
    schema = get_hf_features_from_features({k: v for k, v in written.items() if k not in LANGUAGE}).arrow_schema
    row = {}
    for name in schema.names:
        shape, dtype = written[name]["shape"], str(written[name]["dtype"])
        empty = EMPTY.get(dtype, 0)
        row[name] = [empty if dtype in EMPTY or shape == (1,) else np.zeros(shape).tolist()]
    return pa.table(row, schema=schema)


def _stats(damaged: DamagedSet, one: WholeEpisode) -> dict[str, dict[str, np.ndarray]]:
    """The episode's statistics, as LeRobot computes them when recording."""
    numbers: dict[str, Any] = {
        key: np.array(one.rows.column(key).to_pylist())
        for key, feature in damaged.features.items()
        if feature["dtype"] not in ("video", "image", "string", "language")
    }
    stats = compute_episode_stats(numbers, damaged.features)
    return stats | {key: _picture_stats(pictures) for key, pictures in one.samples.items()}


def _picture_stats(pictures: Sequence[Image]) -> dict[str, np.ndarray]:
    small = np.stack([auto_downsample_height_width(picture.transpose(2, 0, 1)) for picture in pictures])
    stats = get_feature_stats(small, axis=(0, 2, 3), keepdims=True)
    return {key: value if key == "count" else np.squeeze(value / 255.0, axis=0) for key, value in stats.items()}


def _place(damaged: DamagedSet, one: WholeEpisode) -> dict[str, Any]:
    """Where the episode's rows and pictures are, as LeRobot's metadata say it."""
    chunk, file = _indices(one.table)
    place: dict[str, Any] = {"data/chunk_index": chunk, "data/file_index": file}
    for key, (path, begin_s) in one.videos.items():
        chunk, file = _indices(path)
        place |= {f"videos/{key}/chunk_index": chunk, f"videos/{key}/file_index": file}
        place |= {f"videos/{key}/from_timestamp": begin_s}
        place |= {f"videos/{key}/to_timestamp": begin_s + len(one.rows) / damaged.fps}
    return place


def _indices(path: Path) -> tuple[int, int]:
    """Chunk and file of LeRobot's chunk-000/file-000.parquet. Raises `DataError` for another name."""
    try:
        return int(path.parent.name.removeprefix("chunk-")), int(path.stem.removeprefix("file-"))
    except ValueError:
        raise DataError(f"{path}: expected a name like chunk-000/file-000") from None


def _copy_labels(source: Path, root: Path, n_whole: int) -> None:
    """Words of the subtasks, and the record of the whole episodes."""
    if (source / "meta/subtasks.parquet").exists():
        shutil.copyfile(source / "meta/subtasks.parquet", root / "meta/subtasks.parquet")
    if (source / RECORD).exists():
        lines = (source / RECORD).read_text().splitlines()[:n_whole]
        replace_text(root / RECORD, "".join(f"{line}\n" for line in lines))
