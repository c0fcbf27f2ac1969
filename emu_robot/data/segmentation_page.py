"""A page to check by eye how a dataset was cut into subtasks: pictures at their starts and ends, motion, words."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from emu_robot.core import Floats32
from emu_robot.data.episode import Episode
from emu_robot.data.labels import Segmentation
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.shared.html import picture_url, write_html

SHOWN = 12
"""Episodes on the page, spread over the set."""
WIDTH, HEIGHT = 900, 70
"""Of the motion curves [px]."""


class Segmented(Protocol):
    """What was found in a set: by episode index."""

    @property
    def segmentations(self) -> dict[int, Segmentation]: ...


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One subtask of an episode; times in seconds, pictures as data URLs, x in pixels of the curves."""

    words: str
    start_s: float
    keyframe_s: float
    start: str
    keyframe: str
    x: float


def write_page(buffer: ReplayBuffer, path: Path, found: Segmented) -> Path:
    """Write the page, whole or not at all."""
    chosen = np.unique(np.linspace(0, buffer.n_episodes - 1, min(SHOWN, buffer.n_episodes)).round().astype(int))
    n_grippers = buffer.layout.n_grippers
    shown = [
        {
            "episode": episode,
            "source": found.segmentations[episode.seed].source.value,
            "cuts": _cuts(episode),
            "curves": _curves(episode.state, n_grippers),
        }
        for episode in (buffer.episode(int(i)) for i in chosen)
    ]
    lengths = np.diff(buffer.episode_ends, prepend=0)
    return write_html(
        path,
        Path(__file__).with_name("segmentation.html.j2"),
        name=buffer.path.name,
        buffer=buffer,
        found=found,
        shown=shown,
        per_episode=np.bincount([len(meta["subtasks"]) for meta in buffer.metadata]).tolist(),
        seconds=(lengths / buffer.metadata[0]["fps"]).tolist(),
        width=WIDTH,
        height=HEIGHT,
    )


def _cuts(episode: Episode) -> list[Cut]:
    images = next(iter(episode.images.values()))
    rows = {int(frame): row for row, frame in enumerate(episode.image_frames)}
    last = len(episode) - 1
    return [
        Cut(
            words=words,
            start_s=start / episode.fps,
            keyframe_s=keyframe / episode.fps,
            start=picture_url(images[rows[start]]),
            keyframe=picture_url(images[rows[keyframe]]),
            x=WIDTH * keyframe / max(last, 1),
        )
        for words, start, keyframe in zip(
            episode.subtasks, episode.starts.tolist(), episode.keyframes.tolist(), strict=False
        )
    ]


def _curves(state: Floats32, n_grippers: int) -> list[str]:
    """Points of two SVG lines: distance of the arm from its first pose, and the gripper."""
    n_arm = state.shape[1] - n_grippers
    arm = state[:, :n_arm] if n_arm else state
    values = [np.sqrt(np.square(arm - arm[0]).mean(1))] + ([state[:, n_arm]] if n_grippers else [])
    x = np.linspace(0, WIDTH, len(state))
    lines = []
    for value in values:
        y = HEIGHT - 5 - (HEIGHT - 10) * (value - value.min()) / max(float(np.ptp(value)), 1e-9)
        lines.append(" ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)))
    return lines
