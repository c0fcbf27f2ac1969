"""Several replay buffers as one, or one with fewer images."""

import json
import shutil
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError, DataError, InvalidValueError
from emu_robot.shared.files import disk_full_as_setup_error, replace_json, require_disk_space
from emu_robot.shared.progress import progress

RECORD = "merged.json"
BLOCK = 64
"""Episodes read and written together."""


@dataclass(kw_only=True)
class MergeConfig:
    """sources: replay buffers; out: the new one that holds all their episodes, in order.

    image_every: keep the images of every so many frames (starts, keyframes and the dwells after these always).
    """

    sources: list[Path] = field(default_factory=list)
    out: Path = Path("data/merged")
    image_every: int = 1

    def __post_init__(self) -> None:
        if self.image_every < 1:
            raise ConfigError(f"image_every is {self.image_every}, must be at least 1")


def merge(config: MergeConfig) -> Path:
    """Write `out`, which appears only when it is complete, and return it; nothing to do if it was merged before.

    Image codes are left behind: another tokenizer may have made them. Raises `DataError` if `out` is something
    else, a source is missing, or rates, cameras or dimensions differ, `ShapeError` if the sizes of pictures do,
    `SystemSetupError` for a full disk.
    """
    sources, out = config.sources, config.out
    if not sources:
        raise InvalidValueError("no sources to merge; give sources=BUFFER,BUFFER")
    buffers = [ReplayBuffer.open(source) for source in sources]
    for buffer in buffers[1:]:
        _check_alike(buffer, buffers[0])
    if out.exists():
        same_episodes = ReplayBuffer.open(out).metadata == [meta for buffer in buffers for meta in buffer.metadata]
        if same_episodes and _image_every(out) == config.image_every:
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
                    merged.extend([episode.thinned(config.image_every) for episode in block])
                    for _ in block:
                        report("")
    replace_json(partial / RECORD, {"image_every": config.image_every})
    partial.replace(out)
    return out


def _check_alike(buffer: ReplayBuffer, first: ReplayBuffer) -> None:
    """Raise `DataError` naming what differs, both values and both buffers."""
    ours, theirs = asdict(buffer.layout), asdict(first.layout)
    compared = [(name.replace("_", " "), ours[name], theirs[name]) for name in ours]
    if buffer.n_episodes and first.n_episodes:
        compared += [("cameras", buffer.cameras, first.cameras), ("rates [Hz]", _rates(buffer), _rates(first))]
    for what, here, there in compared:
        if here != there:
            told = [", ".join(map(str, v)) or "none" if isinstance(v, (tuple, list)) else str(v) for v in (here, there)]
            raise DataError(f"{buffer.path}: {what}: {told[0]}; {first.path} has {told[1]}; they cannot be merged")


def _rates(buffer: ReplayBuffer) -> list[int]:
    return sorted({meta["fps"] for meta in buffer.metadata})


def _image_every(out: Path) -> int | None:
    """What `out` was merged with; None if it is no merged buffer."""
    path = out / RECORD
    return json.loads(path.read_text())["image_every"] if path.exists() else None
