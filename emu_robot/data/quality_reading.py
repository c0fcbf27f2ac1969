"""Read what the quality checks look at: numbers and small pictures of an episode. Suffixes: T frames, K pictures."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from emu_robot.core import Floats32, Image
from emu_robot.data.conversion import Conversion, says_success
from emu_robot.data.lerobot_files import EpisodeFiles, LeRobotFiles
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError
from emu_robot.shared.parallel import run_numbered
from emu_robot.shared.progress import progress

PARTS = 16
"""Parts of a picture in each direction."""


def _nothing() -> Floats32:
    return np.zeros((0, 0), np.float32)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One episode as the checks see it."""

    index: int
    """Index in the set."""
    task: str
    """The instruction."""
    fps: float
    """Rate [Hz]."""
    state: Floats32 = field(default_factory=_nothing)
    """(T, S)."""
    action: Floats32 = field(default_factory=_nothing)
    """(T, A)."""
    success: bool | None = None
    """Whether it succeeded, if the set tells."""
    seen: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """(K,) frames whose pictures were looked at."""
    parts: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Camera -> (K, 16, 16, 3) mean colours of the parts of its pictures."""
    gap: str = ""
    """Time stamps that are not 1 / fps apart, in words."""
    fault: str = ""
    """Why it cannot be read; all else is empty then."""


def parts_of(image: Image) -> NDArray[np.uint8]:
    """(16, 16, 3) mean colours of the parts of a picture."""
    small = PillowImage.fromarray(image).resize((PARTS, PARTS), PillowImage.Resampling.BOX)
    return np.asarray(small)


def read_lerobot(
    files: LeRobotFiles, episodes: Sequence[EpisodeFiles], conversion: Conversion, every_s: float, workers: int
) -> list[Reading]:
    """Every episode of a set, in order; one that cannot be read has a `fault`."""
    make = partial(_Reader, files.root, conversion, list(episodes), every_s)
    found: dict[int, Reading] = {}
    with (
        progress("checking", len(episodes)) as report,
        closing(run_numbered(make, range(len(episodes)), workers)) as readings,
    ):
        for i, reading in readings:
            found[i] = reading
            report("")
    return [found[i] for i in range(len(episodes))]


class _Reader:
    """Reads episodes in one process."""

    def __init__(self, root: Path, conversion: Conversion, episodes: Sequence[EpisodeFiles], every_s: float) -> None:
        self._files, self._conversion, self._episodes, self._every_s = LeRobotFiles(root), conversion, episodes, every_s

    def run(self, index: int) -> Reading:
        episode, files = self._episodes[index], self._files
        task = episode.tasks[0] if episode.tasks else ""
        try:
            files.check(episode, self._conversion.cameras.values())
            rows = files.stored_rows(episode)
            state, action = self._conversion.numbers(files, episode, rows)
            seen = seen_frames(len(state), files.fps, self._every_s)
            parts = {
                ours: np.stack([parts_of(image) for image in files.images(episode, rows, theirs, seen.tolist())])
                for ours, theirs in self._conversion.cameras.items()
                if len(seen)
            }
            gap, success = files.time_gap(episode, rows), says_success(rows)
        except DataError as error:
            return Reading(index=episode.index, task=task, fps=files.fps, fault=str(error))
        return Reading(
            index=episode.index, task=task, fps=files.fps, state=state, action=action, success=success, seen=seen,
            parts=parts, gap=gap,
        )  # fmt: skip

    def close(self) -> None:
        """Nothing is held open."""


def seen_frames(n_frames: int, fps: float, every_s: float) -> NDArray[np.int64]:
    """(K,) frames to look at; none for every_s=0."""
    return np.arange(0, n_frames, max(1, round(every_s * fps))) if every_s else np.zeros(0, np.int64)


def read_buffer(buffer: ReplayBuffer, every_s: float, n: int = 0) -> Iterator[Reading]:
    """Every episode of a replay buffer with motion, in order; the first `n`, or all."""
    ends, image_ends = buffer.episode_ends, buffer.image_ends
    state, action, frames = (buffer.load(name) for name in ("frames/state", "frames/action", "images/frame"))
    cameras = {camera: buffer.images(camera) for camera in buffer.cameras}
    for i, meta in enumerate(buffer.metadata[: n or None]):
        begin, image_begin = (int(e[i - 1]) if i else 0 for e in (ends, image_ends))
        if not meta.get("executed", True):
            continue
        own = frames[image_begin : int(image_ends[i])] - begin
        wanted = seen_frames(int(ends[i]) - begin, meta["fps"], every_s)
        rows = np.unique(np.searchsorted(own, wanted).clip(max=len(own) - 1)) if len(wanted) else np.zeros(0, np.int64)
        yield Reading(
            index=i,
            task=meta["instruction"],
            fps=meta["fps"],
            state=state[begin : int(ends[i])],
            action=action[begin : int(ends[i])],
            success=bool(meta["success"]),
            seen=own[rows].astype(np.int64),
            parts={
                camera: np.stack([parts_of(images[image_begin + int(row)]) for row in rows])
                for camera, images in cameras.items()
                if len(rows)
            },
        )
