"""Merge replay buffers into one, or thin out the images of one."""

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from emu_robot.data.buffer_arrays import RowSpecs, check_row_specs
from emu_robot.data.episode import Episode
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError, InvalidValueError
from emu_robot.robots.spec import RobotLayout
from emu_robot.shared.files import disk_full_as_setup_error, replace_json, require_disk_space
from emu_robot.shared.progress import progress
from emu_robot.shared.settings import check_ranges, number

RECORD = "merged.json"
BLOCK = 64
"""Episodes that are read and written together."""


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Settings of a merge."""

    sources: list[Path] = field(default_factory=list)
    """Replay buffers, at least one."""
    out: Path = Path("data/merged")
    """The new replay buffer with all their episodes, in order."""
    image_every: int = number(1, 1)
    """Frames from one kept image to the next; those of starts, keyframes and their dwells stay."""

    cameras: list[str] = field(default_factory=list)
    """Cameras to keep; empty: all, which the sources must then share."""

    def __post_init__(self) -> None:
        check_ranges(self)


def merge(config: MergeConfig) -> Path:
    """Write `out` and return it. It appears only when it is complete; an `out` that was merged before stays.

    Image codes are not copied, as different tokenizers may have made them. Raises `DataError` if `out` is something
    else, a source is missing, or rates, cameras or dimensions differ; `ShapeError` if sizes of pictures differ;
    `SystemSetupError` for a full disk.
    """
    sources, out = config.sources, config.out
    if not sources:
        raise InvalidValueError("no sources to merge; give sources=BUFFER,BUFFER")
    buffers = [ReplayBuffer.open(source) for source in sources]
    _check_alike(buffers, config.cameras)
    if out.exists():
        same_episodes = ReplayBuffer.open(out).metadata == [meta for buffer in buffers for meta in buffer.metadata]
        if same_episodes and _settings(out) == _written(config):
            return out
        raise DataError(f"{out}: already exists and holds something else; merge into a new path")
    require_disk_space(out, sum(file.stat().st_size for source in sources for file in source.rglob("*")))
    partial = out.with_name(f"{out.name}.merging")
    shutil.rmtree(partial, ignore_errors=True)
    with disk_full_as_setup_error(out), progress("merging", sum(b.n_episodes for b in buffers)) as report:
        out.parent.mkdir(parents=True, exist_ok=True)
        with closing(ReplayBuffer.create(partial, buffers[0].layout)) as merged:
            for buffer in buffers:
                for begin in range(0, buffer.n_episodes, BLOCK):
                    block = buffer.episodes(begin, min(begin + BLOCK, buffer.n_episodes))
                    merged.extend([_kept(episode, config) for episode in block])
                    for _ in block:
                        report("")
    replace_json(partial / RECORD, _written(config))
    partial.replace(out)
    return out


def _kept(episode: Episode, config: MergeConfig) -> Episode:
    """The episode with the cameras and images to keep."""
    images = {camera: episode.images[camera] for camera in config.cameras or episode.images}
    return replace(episode, images=images).thinned(config.image_every)


def _check_alike(buffers: Sequence[ReplayBuffer], cameras: Sequence[str]) -> None:
    """Raise `DataError` or `ShapeError` naming what differs: dimensions, cameras, rates, sizes of images."""
    filled = [buffer for buffer in buffers if buffer.n_episodes]
    for buffer in buffers[1:]:
        _compare(buffer, buffers[0], differences(buffer.layout, buffers[0].layout))
    for buffer in filled:
        for camera in cameras:
            buffer.images(camera)
    for buffer in filled[1:]:
        first = filled[0]
        pairs: dict[str, tuple[Any, Any]] = {"rates [Hz]": (_rates(buffer), _rates(first))}
        if not cameras:
            pairs["cameras"] = buffer.cameras, first.cameras
        _compare(buffer, first, {name: pair for name, pair in pairs.items() if pair[0] != pair[1]})
        check_row_specs(f"{buffer.path} beside {first.path}", _rows(buffer, cameras), _rows(first, cameras))


def _rows(buffer: ReplayBuffer, cameras: Sequence[str]) -> RowSpecs:
    """The specs of the arrays to keep."""
    left_out = {f"images/{camera}" for camera in buffer.cameras if cameras and camera not in cameras}
    return {name: spec for name, spec in buffer.row_specs().items() if name not in left_out}


def differences(one: RobotLayout, other: RobotLayout) -> dict[str, tuple[Any, Any]]:
    """Field -> both values, for each field in which two layouts differ so that they cannot be merged."""
    strict = ("relative_dims", "state_kinds", "action_kinds", "state_order", "action_order", "unused_actions")
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in strict}
    return one.differences(other) | {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _compare(buffer: ReplayBuffer, first: ReplayBuffer, different: Mapping[str, tuple[Any, Any]]) -> None:
    for name, pair in different.items():
        here, there = (", ".join(map(str, v)) or "none" if isinstance(v, (tuple, list)) else str(v) for v in pair)
        what = name.replace("_", " ")
        raise DataError(f"{buffer.path}: {what}: {here}; {first.path} has {there}; they cannot be merged")


def _rates(buffer: ReplayBuffer) -> list[int]:
    return sorted({meta["fps"] for meta in buffer.metadata})


def _written(config: MergeConfig) -> dict[str, Any]:
    """The settings that a merged buffer records."""
    return {"image_every": config.image_every, "cameras": config.cameras}


def _settings(out: Path) -> dict[str, Any] | None:
    """The settings that `out` was merged with; None if it is no merged buffer."""
    path = out / RECORD
    return {"cameras": []} | json.loads(path.read_text()) if path.exists() else None
