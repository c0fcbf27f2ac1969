"""Write a replay buffer as a LeRobotDataset v3: H.264 videos, instructions as tasks, subtasks and keyframes per frame.

    observation.state, action, observation.images.<camera>, task: LeRobot's own keys
    subtask_index (1,) i64   row of meta/subtasks.parquet (subtask text -> subtask_index)
    keyframe      (1,) i64   frame index, within the episode, at which the present subtask is complete
    next.success  (1,) bool  at the last frame: whether the episode succeeded
    language_persistent      LeRobot's annotation column, style "subtask", stamped at each subtask's start

README.md is the dataset card. Adding episodes rewrites it.

Episodes are written in parts, each renamed into place when complete, and merged at the end. An interrupted export keeps
its complete parts, and an export of a buffer that has grown adds only the new episodes.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np
from lerobot.configs.video import RGBEncoderConfig
from lerobot.datasets.aggregate import aggregate_datasets
from lerobot.datasets.lerobot_dataset import LeRobotDataset

import datasets
from emu_robot.data.dataset_card import origin_of, write_card
from emu_robot.data.episode import Episode
from emu_robot.data.lerobot_features import LABELS, usual_features
from emu_robot.data.lerobot_labels import add_language, language_rows, write_subtasks
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError, DataError, InvalidValueError
from emu_robot.robots.spec import ROBOTS, RobotLayout
from emu_robot.shared.files import (
    disk_full_as_setup_error,
    lock_directory,
    make_readable,
    recover_folder,
    replace_folder,
)
from emu_robot.shared.parallel import run_parallel
from emu_robot.shared.progress import progress
from emu_robot.shared.typed import first_line

EPISODES_PER_PART = 50
VIDEO_FILE_MB = 20  # appending an episode copies its file, so small files are quick
H264_CRF = 18  # visually lossless; LeRobot's default loses detail that image tokens need
INFO = "meta/info.json"


@dataclass(frozen=True, kw_only=True)
class _Export:
    buffer: ReplayBuffer
    out: Path
    robot: str
    license: str
    gop: int
    crf: int
    subtask_index: dict[str, int]

    @property
    def parts(self) -> Path:
        return self.out.with_name(f"{self.out.name}.parts")

    def part(self, episodes: range) -> Path:
        """Where the part of these episodes belongs."""
        return self.parts / f"{episodes.start:06d}-{episodes.stop:06d}"

    @property
    def repo_id(self) -> str:
        return f"local/{self.out.name}"


def export_lerobot(
    source: str | Path,
    out: str | Path,
    robot: str = "",
    *,
    license: str = "",
    gop: int = 2,
    crf: int = H264_CRF,
    workers: int = 1,
) -> Path:
    """Export the episodes of the replay buffer `source` that the dataset `out` does not hold yet; return `out`.

    robot: name of the robot; empty: the known one with the buffer's layout. license: see `origin_of`. gop: frames from
    one whole picture to the next; 2 makes random access quick, 20 makes videos smaller. crf: quality of the videos, 0
    (lossless) to 51. workers: processes; 1 writes in this one.

    Raises `DataError` if `source` is not a buffer, has no actions, or `out` is something else, `ConfigError` if images
    are not stored for every frame (collect with image_every=1), `InvalidValueError` for a number out of its range,
    `SystemSetupError` if the disk fills up.
    """
    if gop < 1 or workers < 1 or not 0 <= crf <= 51:
        given = f"gop={gop}, crf={crf}, workers={workers}"
        raise InvalidValueError(f"got {given}; gop and workers must be at least 1, crf lie in [0, 51]")
    buffer, out = ReplayBuffer.open(source), Path(out)
    check_target(out)
    if not buffer.n_episodes:
        raise DataError(f"{buffer.path}: holds no episodes to export")
    buffer.require_actions()
    if any(meta.get("interventions") for meta in buffer.metadata):
        raise DataError(f"{buffer.path}: holds corrections, which an export would not mark; use the set it comes from")
    if buffer.n_images != buffer.n_frames:
        stored = f"{buffer.n_images} images for {buffer.n_frames} frames"
        raise ConfigError(f"{buffer.path}: {stored}; a LeRobotDataset needs every one (collect with image_every=1)")
    texts = dict.fromkeys(text for meta in buffer.metadata for text in meta["subtasks"])
    index = {text: i for i, text in enumerate(texts)}
    robot = robot or next((spec.name for spec in ROBOTS.values() if spec.layout.agrees(buffer.layout)), "unknown")
    export = _Export(buffer=buffer, out=out, robot=robot, license=license, gop=gop, crf=crf, subtask_index=index)
    with disk_full_as_setup_error(out), quiet():
        export.parts.mkdir(parents=True, exist_ok=True)
        with lock_directory(export.parts):
            recover_folder(out, export.parts / "replaced")
            n_exported = _n_episodes(out) if out.exists() else 0
            if n_exported < buffer.n_episodes:
                _merge(export, n_exported, _write_parts(export, n_exported, workers))
            shutil.rmtree(export.parts)
    return out


def check_target(out: Path) -> None:
    """Raise `DataError` if `out` exists and is not a dataset written here."""
    if out.exists():
        _n_episodes(out)


def create_set(
    root: Path,
    repo_id: str,
    *,
    fps: int,
    features: Mapping[str, Mapping[str, Any]],
    robot: str,
    gop: int = 2,
    crf: int = H264_CRF,
    queued_frames: int = 100_000,
) -> LeRobotDataset:
    """Create an empty dataset in the new folder `root`, with videos in H.264; see `export_lerobot`.

    queued_frames: frames per camera that may wait for the encoder; more are dropped.
    """
    return LeRobotDataset.create(
        repo_id,
        fps=fps,
        features={key: dict(feature) for key, feature in features.items()},
        root=root,
        robot_type=robot,
        rgb_encoder=h264(gop, crf),
        streaming_encoding=True,
        video_backend="pyav",
        encoder_queue_maxsize=queued_frames,
        encoder_threads=1,
        video_files_size_in_mb=VIDEO_FILE_MB,
    )


def h264(gop: int = 2, crf: int = H264_CRF) -> RGBEncoderConfig:
    """LeRobot's settings of our videos; see `export_lerobot`."""
    return RGBEncoderConfig(vcodec="h264", crf=crf, preset="veryfast", g=gop)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the encoder's statistics and the parquet writer's progress bars off the terminal."""
    had_bars = datasets.is_progress_bar_enabled()
    av.logging.set_libav_level(av.logging.ERROR)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        av.logging.set_libav_level(av.logging.INFO)
        if had_bars:
            datasets.enable_progress_bars()


def _n_episodes(path: Path) -> int:
    """Episodes of the set. Raises `DataError` unless `path` is a LeRobotDataset written here."""
    try:
        info = json.loads((path / INFO).read_text())
        fits = "subtask_index" in info["features"]
        n_episodes = int(info["total_episodes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: exists and is not a LeRobotDataset ({INFO}: {first_line(error)})") from error
    if not fits:
        raise DataError(f"{path}: a LeRobotDataset without subtask_index; choose another path")
    return n_episodes


# Parts


def _write_parts(export: _Export, n_exported: int, workers: int) -> list[Path]:
    """Complete parts <begin>-<end> from episode n_exported on, in order, writing those that are missing."""
    done = {int(part.name.split("-")[0]): part for part in export.parts.glob("*-*") if part.suffix != ".partial"}
    begin, n_episodes = n_exported, export.buffer.n_episodes
    parts: list[Path] = []
    missing: dict[int, range] = {}
    while begin < n_episodes:
        if begin not in done:
            missing[begin] = range(begin, min(begin + EPISODES_PER_PART, n_episodes))
            done[begin] = export.part(missing[begin])
        parts.append(done[begin])
        begin = int(done[begin].name.split("-")[1])
    make_writer = partial(_PartWriter, export, missing)
    with (
        progress("exporting", total=sum(map(len, missing.values()))) as report,
        closing(run_parallel(make_writer, list(missing), workers if workers > 1 else 0)) as written,
    ):
        for n_written in written:
            for _ in range(n_written):
                report("")
    return parts


class _PartWriter:
    """Writes the part that begins at an episode; returns its number of episodes."""

    def __init__(self, export: _Export, episodes: Mapping[int, range]) -> None:
        self._export, self._episodes = export, episodes

    def run(self, index: int) -> int:
        episodes = self._episodes[index]
        with quiet():
            write_part(self._export, episodes, self._export.part(episodes))
        return len(episodes)

    def close(self) -> None:
        pass


def write_part(export: _Export, episodes: range, part: Path) -> None:
    """Write these episodes as a separate LeRobotDataset in the folder `part`, which appears when it is complete."""
    unfinished = part.with_name(f"{part.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    first = export.buffer.episode(episodes[0])
    dataset = create_set(
        unfinished, export.repo_id, fps=first.fps, features=_features(export.buffer.layout, first), robot=export.robot,
        gop=export.gop, crf=export.crf,
    )  # fmt: skip
    language = []
    for i in episodes:
        episode = export.buffer.episode(i)
        for frame in _frames(export, episode):
            dataset.add_frame(frame)
        dataset.save_episode()
        language.append(language_rows(episode.subtasks, episode.starts.tolist(), episode.fps))
    dataset.finalize()
    add_language(unfinished, sorted((unfinished / "data").rglob("*.parquet")), language)
    unfinished.replace(part)


def _features(layout: RobotLayout, episode: Episode) -> dict[str, dict[str, Any]]:
    shapes = {camera: images.shape[1:] for camera, images in episode.images.items()}
    features = usual_features(layout.state_names, layout.action_names, shapes)
    return features | LABELS


def _frames(export: _Export, episode: Episode) -> Iterator[dict[str, Any]]:
    images = {camera: episode.images[camera] for camera in episode.images}
    subtask_T, last = episode.subtask_T, len(episode) - 1
    keyframes = [*episode.keyframes, *[last] * (len(episode.subtasks) - len(episode.keyframes))]
    for t in range(len(episode)):
        k = subtask_T[t]
        yield {
            "task": episode.instruction,
            "observation.state": episode.state[t],
            "action": episode.action[t],
            **{f"observation.images.{camera}": array[t] for camera, array in images.items()},
            "subtask_index": np.array([export.subtask_index[episode.subtasks[k]]], np.int64),
            "keyframe": np.array([keyframes[k]], np.int64),
            "next.success": np.array([episode.success and t == last]),
        }


# Merge


def _merge(export: _Export, n_exported: int, parts: list[Path]) -> None:
    """Merge `out` and the parts into one dataset in place of `out`."""
    sources = [*([export.out] if n_exported else []), *parts]
    merged = export.parts / "merged"
    shutil.rmtree(merged, ignore_errors=True)
    ids = [export.repo_id] * len(sources)
    aggregate_datasets(ids, export.repo_id, roots=sources, aggr_root=merged, video_files_size_in_mb=VIDEO_FILE_MB)
    write_subtasks(merged, export.subtask_index)
    write_card(merged, origin_of(export.buffer, export.license), export.out.name)
    make_readable(merged)
    replace_folder(merged, export.out, export.parts / "replaced")
