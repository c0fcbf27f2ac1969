"""Small LeRobotDatasets of both versions, written file by file, so that anything in them can be made wrong."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PillowImage

STATE_NAMES = ["gripper.pos", "shoulder.pos", "elbow.pos"]
"""The gripper comes first, as in no set of ours."""
FPS = 10
REST = (0.0, 0.0)
STATS = ("min", "max", "mean", "std")


@dataclass(kw_only=True)
class SmallEpisode:
    """state (T, D); commanded (T, A): none given means the state one frame later. columns: more, a value per frame.

    seen: frame -> the frame that the first camera shows instead, None for black. scene: seed of the pictures; by
    default the episode's index.
    """

    state: np.ndarray
    task: str = "put it away"
    commanded: np.ndarray | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    seen: Callable[[int], int | None] = lambda t: t
    scene: int | None = None

    def __len__(self) -> int:
        return len(self.state)

    @property
    def action(self) -> np.ndarray:
        return np.concatenate([self.state[1:], self.state[-1:]]) if self.commanded is None else self.commanded


def small_episode(seed: int, n_subtasks: int = 2, **changes: Any) -> SmallEpisode:
    """The arm goes out and comes back to rest as often as there are subtasks, its gripper shut on the way back."""
    rng = np.random.default_rng(seed)
    out = np.sin(np.linspace(0, np.pi, 16))
    still = np.zeros(3)
    reach = [np.concatenate([still, out * rng.uniform(0.8, 1.2)]) for _ in range(n_subtasks)]
    shoulder = np.concatenate([*reach, still])
    gripper = np.concatenate([*([np.r_[np.zeros(11), np.full(6, 100.0), np.zeros(2)]] * n_subtasks), np.zeros(3)])
    state = np.stack([gripper, shoulder, 0.5 * shoulder], 1).astype(np.float32)
    return SmallEpisode(state=state, **changes)


def picture(seed: int, t: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8, smooth, that tells its episode and frame by its shade."""
    row = np.linspace(0, 30, size[0])[:, None, None]
    return np.broadcast_to(40 + 25 * (seed % 4) + 2 * t + row, (*size, 3)).astype(np.uint8)


def write_set(
    root: Path,
    episodes: Sequence[SmallEpisode],
    *,
    version: str = "v3.0",
    cameras: Sequence[str] = ("top",),
    dtype: str = "video",
    size: tuple[int, int] = (48, 64),
    subtasks: Sequence[str] = (),
    names: Any = STATE_NAMES,
    action_names: Any = None,
    fps: int = FPS,
) -> Path:
    """Write a dataset; every camera shows the same, the second one upside down in brightness.

    action_names: those of the state if none are given.
    """
    widths = {"observation.state": episodes[0].state.shape[1], "action": episodes[0].action.shape[1]}
    called = {"observation.state": names, "action": names if action_names is None else action_names}
    features: dict[str, Any] = {
        key: {"dtype": "float32", "shape": [width], "names": called[key]} for key, width in widths.items()
    }
    for camera in cameras:
        features[f"observation.images.{camera}"] = {
            "dtype": dtype, "shape": [*size, 3], "names": ["height", "width", "channels"]
        }  # fmt: skip
    for key in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        features[key] = {"dtype": "float32" if key == "timestamp" else "int64", "shape": [1], "names": None}
    tasks = list(dict.fromkeys(episode.task for episode in episodes))
    tables, begin = [], 0
    for i, episode in enumerate(episodes):
        tables.append(_table(i, begin, episode, tasks, cameras, dtype, size, fps))
        begin += len(episode)
    v3 = version == "v3.0"
    info = {
        "codebase_version": version,
        "robot_type": "small",
        "fps": fps,
        "total_episodes": len(episodes),
        "total_frames": begin,
        "total_tasks": len(tasks),
        "chunks_size": 1000,
        "features": features,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        if v3
        else "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        if v3
        else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    (root / "meta").mkdir(parents=True)
    if subtasks:
        _write(root / "meta/subtasks.parquet", {"subtask_index": range(len(subtasks)), "subtask": subtasks})
    if v3:
        _write_v3(root, episodes, tables, tasks, cameras if dtype == "video" else (), size, fps)
    else:
        info |= {"total_chunks": 1, "total_videos": len(episodes) * len(cameras)}
        _write_v2(root, episodes, tables, tasks, cameras if dtype == "video" else (), size, fps)
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/stats.json").write_text(json.dumps(_set_stats(episodes, cameras)))
    return root


def edit_json(path: Path, **changes: Any) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_column(path: Path, name: str, edit: Any) -> None:
    """Replace a column of a parquet file by `edit(its values)`, of whatever type that makes; None drops it."""
    table = pq.read_table(path)
    values = edit(table.column(name).to_pylist())
    table = table.drop_columns([name])
    pq.write_table(table if values is None else table.append_column(name, pa.array(values)), path)


def _table(
    i: int, begin: int, episode: SmallEpisode, tasks: list[str], cameras: Sequence[str], dtype: str, size: Any, fps: int
) -> pa.Table:
    frames = np.arange(len(episode))
    columns: dict[str, Any] = {
        "observation.state": pa.array(episode.state.tolist(), pa.list_(pa.float32())),
        "action": pa.array(episode.action.tolist(), pa.list_(pa.float32())),
        "timestamp": pa.array(frames / fps, pa.float32()),
        "frame_index": frames,
        "episode_index": np.full(len(episode), i),
        "index": begin + frames,
        "task_index": np.full(len(episode), tasks.index(episode.task)),
        **episode.columns,
    }
    if dtype == "image":
        for k, camera in enumerate(cameras):
            pictures = [_png(_shown(i, episode, t, k, size)) for t in frames.tolist()]
            columns[f"observation.images.{camera}"] = [{"bytes": png, "path": None} for png in pictures]
    return pa.table(columns)


def _write_v3(
    root: Path, episodes: Any, tables: list[pa.Table], tasks: list[str], cameras: Sequence[str], size: Any, fps: int
) -> None:
    _write_table(root / "data/chunk-000/file-000.parquet", pa.concat_tables(tables))
    pd.DataFrame({"task_index": range(len(tasks))}, index=pd.Index(tasks)).to_parquet(root / "meta/tasks.parquet")
    begins = np.cumsum([0, *(len(episode) for episode in episodes)]).tolist()
    rows: dict[str, list[Any]] = {
        "episode_index": list(range(len(episodes))),
        "tasks": [[episode.task] for episode in episodes],
        "length": [len(episode) for episode in episodes],
        "data/chunk_index": [0] * len(episodes),
        "data/file_index": [0] * len(episodes),
        "dataset_from_index": begins[:-1],
        "dataset_to_index": begins[1:],
        "meta/episodes/chunk_index": [0] * len(episodes),
        "meta/episodes/file_index": [0] * len(episodes),
    }
    for k, camera in enumerate(cameras):
        key = f"videos/observation.images.{camera}"
        rows |= {f"{key}/chunk_index": [0] * len(episodes), f"{key}/file_index": [0] * len(episodes)}
        rows |= {f"{key}/from_timestamp": [begin / FPS for begin in begins[:-1]]}
        rows |= {f"{key}/to_timestamp": [begin / FPS for begin in begins[1:]]}
        shown = [_shown(i, episode, t, k, size) for i, episode in enumerate(episodes) for t in range(len(episode))]
        _write_video(root / f"videos/observation.images.{camera}/chunk-000/file-000.mp4", shown, fps)
    _write(root / "meta/episodes/chunk-000/file-000.parquet", rows)


def _write_v2(
    root: Path, episodes: Any, tables: list[pa.Table], tasks: list[str], cameras: Sequence[str], size: Any, fps: int
) -> None:
    for i, table in enumerate(tables):
        _write_table(root / f"data/chunk-000/episode_{i:06d}.parquet", table)
        for k, camera in enumerate(cameras):
            shown = [_shown(i, episodes[i], t, k, size) for t in range(len(episodes[i]))]
            _write_video(root / f"videos/chunk-000/observation.images.{camera}/episode_{i:06d}.mp4", shown, fps)
    _write_lines(root / "meta/tasks.jsonl", [{"task_index": i, "task": task} for i, task in enumerate(tasks)])
    rows = [{"episode_index": i, "tasks": [e.task], "length": len(e)} for i, e in enumerate(episodes)]
    _write_lines(root / "meta/episodes.jsonl", rows)
    stats = [{"episode_index": i, "stats": _stats(episode)} for i, episode in enumerate(episodes)]
    _write_lines(root / "meta/episodes_stats.jsonl", stats)


def _stats(episode: SmallEpisode) -> dict[str, Any]:
    columns = {"observation.state": episode.state, "action": episode.action}
    return {
        key: {name: getattr(values, name)(0).tolist() for name in STATS} | {"count": [len(values)]}
        for key, values in columns.items()
    }


def _set_stats(episodes: Sequence[SmallEpisode], cameras: Sequence[str]) -> dict[str, Any]:
    """meta/stats.json; pictures are said to be grey."""
    state, action = (np.concatenate([getattr(e, name) for e in episodes]) for name in ("state", "action"))
    whole = SmallEpisode(state=state, commanded=action)
    grey = {"min": 0.0, "max": 1.0, "mean": 0.5, "std": 0.25}
    picture = {name: [[[value]]] * 3 for name, value in grey.items()} | {"count": [len(whole)]}
    return _stats(whole) | {f"observation.images.{camera}": picture for camera in cameras}


def _shown(i: int, episode: SmallEpisode, t: int, k: int, size: Any) -> np.ndarray:
    scene, at = i if episode.scene is None else episode.scene, t if k else episode.seen(t)
    if at is None:
        return np.zeros((*size, 3), np.uint8)
    image = picture(scene, at, size)
    return 255 - image if k else image


def _write_video(path: Path, frames: list[np.ndarray], fps: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", fps, options={"crf": "10", "g": "5", "preset": "ultrafast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv444p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    PillowImage.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _write(path: Path, columns: dict[str, Any]) -> None:
    _write_table(path, pa.table({name: pa.array(list(values)) for name, values in columns.items()}))


def _write_table(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
