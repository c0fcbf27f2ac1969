"""`emu-robot data view`: what its page shows of a dataset, and what a person decides there. Knows no HTTP."""

import io
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
import numpy as np
from PIL import Image as PillowImage

from emu_robot.core import Image
from emu_robot.data.conversion import says_success
from emu_robot.data.edits import EpisodeEdit, read_edits, write_edit
from emu_robot.data.first_reading import read_set
from emu_robot.data.labels import Segmentation, edited
from emu_robot.data.lerobot_files import EpisodeFiles, LeRobotFiles
from emu_robot.data.prepare import PrepareConfig, Selection, choose, locate
from emu_robot.data.quality import EpisodeQuality, QualityConfig
from emu_robot.data.quality_check import check_lerobot
from emu_robot.errors import DataError, UnknownNameError
from emu_robot.shared.settings import number
from emu_robot.shared.typed import build

POINTS = 400
"""Most points of a curve."""
CLIP_HEIGHT, THUMB_HEIGHT = 240, 96
"""Heights of clips and small pictures [px]."""


@dataclass(frozen=True, kw_only=True)
class ViewConfig(Selection):
    """Settings of the page."""

    dataset: str = ""
    """Folder of a LeRobotDataset (v2.0, v2.1, v3.0) or its id on the hub."""
    port: int = number(8766, 0, 65535)
    """Port on this machine; 0 takes a free one."""
    quality: QualityConfig = field(default_factory=QualityConfig)
    """Thresholds of the checks, whose verdicts the page shows."""


class DatasetView:
    """A dataset on the page. Its methods may be called from several threads."""

    def __init__(self, config: ViewConfig) -> None:
        """Reads and checks the whole set. Raises the errors of its metadata and of the settings."""
        settings = PrepareConfig(
            **{setting.name: getattr(config, setting.name) for setting in fields(Selection)}, dataset=config.dataset
        )
        self.files = LeRobotFiles(locate(config.dataset))
        self._conversion = choose(self.files, settings)
        shown = [one for one in self.files.episodes if one.index not in config.exclude][: config.n or None]
        self.episodes = {episode.index: episode for episode in shown}
        self.quality = check_lerobot(self.files, shown, self._conversion, config.quality, config.workers)
        self._judged = {one.index: one for one in self.quality.episodes}
        self._found = self._segmentations(settings)
        self._writing, self._decoding = threading.Lock(), threading.Lock()
        self.thumb, self.clip = lru_cache(4096)(self._thumb), lru_cache(32)(self._clip)

    def _segmentations(self, settings: PrepareConfig) -> Mapping[int, Segmentation]:
        """The subtasks of every episode that can be read; {} if the set as a whole cannot be cut."""
        refused = ("unreadable", "timing gap")
        unread = {one.index for one in self.quality.episodes if any(f.check in refused for f in one.findings)}
        whole = [episode for episode in self.episodes.values() if episode.index not in unread]
        try:
            found = read_set(
                self.files, whole, self._conversion, keyframes=settings.keyframes, use_labels=True, excluded=()
            )
        except (DataError, ValueError) as error:
            print(f"subtasks are not shown: {error}")
            return {}
        return found.segmentations

    def episode(self, index: int) -> EpisodeFiles:
        """Raises `UnknownNameError`."""
        if index not in self.episodes:
            raise UnknownNameError(f"episode of {self.files.root}", index, self.episodes)
        return self.episodes[index]

    def told(self, index: int) -> dict[str, Any]:
        """An episode as JSON values."""
        episode, judged = self.episode(index), self._judged.get(index, EpisodeQuality(index=index))
        edit, found = read_edits(self.files.root).get(index, EpisodeEdit()), self._found.get(index)
        if edit.subtasks:
            found = edited(edit, episode.length, f"episode {index}")
        return {
            "index": index,
            "task": episode.tasks[0] if episode.tasks else "",
            "length": episode.length,
            "fps": self.files.fps,
            "verdict": judged.verdict.value,
            "reasons": [f"{finding.check}: {finding.reason}" for finding in judged.findings],
            "keep": edit.keep,
            "source": found.source.value if found else "",
            "subtasks": [
                {"words": words, "start": int(start), "keyframe": int(keyframe)}
                for words, start, keyframe in zip(found.subtasks, found.starts, found.keyframes, strict=True)
            ]
            if found
            else [],
        }

    def save(self, index: int, values: Any) -> dict[str, Any]:
        """Keep a decision, and return the episode. values: those of an `EpisodeEdit`; what is missing stays.

        Raises `InvalidValueError` for subtasks that do not fit, `UnknownNameError` for an unknown episode.
        """
        episode = self.episode(index)
        with self._writing:
            before = asdict(read_edits(self.files.root).get(index, EpisodeEdit()))
            edit = build(EpisodeEdit, before | values if isinstance(values, dict) else values, f"episode {index}")
            write_edit(self.files.root, index, edit, episode.length)
        return self.told(index)

    def curves(self, index: int) -> dict[str, Any]:
        """State and action over time, each dimension of the state on its own scale in [0, 1], and the outcome."""
        episode = self.episode(index)
        rows = self.files.stored_rows(episode)
        state, action = self._conversion.numbers(self.files, episode, rows)
        kept = np.unique(np.linspace(0, len(state) - 1, min(len(state), POINTS)).round().astype(int))
        names = [[column.name for column in some] for some in (
            self._conversion.dimensions.state, self._conversion.dimensions.action)]  # fmt: skip
        return {
            "frames": kept.tolist(),
            "state": {name: _scaled(state[kept, i]) for i, name in enumerate(names[0])},
            "action": {name: _scaled(action[kept, i]) for i, name in enumerate(names[1])},
            "success": says_success(rows),
        }

    def _thumb(self, index: int) -> bytes:
        """JPEG of the first camera at the begin and the end of an episode."""
        episode = self.episode(index)
        camera = next(iter(self._conversion.cameras.values()))
        with self._decoding:
            shown = self.files.images(episode, self.files.stored_rows(episode), camera, sorted({0, episode.length - 1}))
            both = [_of_height(image, THUMB_HEIGHT) for image in shown]
        file = io.BytesIO()
        PillowImage.fromarray(np.concatenate(both, 1)).save(file, "JPEG", quality=85)
        return file.getvalue()

    def _clip(self, index: int) -> bytes:
        """H.264 of all cameras side by side, every frame."""
        episode = self.episode(index)
        rows, frames = self.files.stored_rows(episode), range(episode.length)
        with self._decoding:
            films = [self.files.images(episode, rows, camera, frames) for camera in self._conversion.cameras.values()]
            joined = (
                np.concatenate([_of_height(image, CLIP_HEIGHT) for image in shot], 1)
                for shot in zip(*films, strict=True)
            )
            return _film(joined, self.files.fps)


def _scaled(values: Any) -> list[float]:
    low, span = float(values.min()), float(np.ptp(values))
    return [round((float(value) - low) / span, 4) if span > 0 else 0.5 for value in values]


def _of_height(image: Image, height: int) -> Image:
    width = max(2, round(image.shape[1] * height / image.shape[0] / 2) * 2)
    return np.asarray(PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.BILINEAR))


def _film(images: Any, fps: float) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = None
        for image in images:
            if stream is None:
                rate = Fraction(fps).limit_denominator(1000)
                stream = container.add_stream("libx264", rate, options={"crf": "24", "preset": "veryfast", "g": "10"})
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()
