"""A page to check the reading of a dataset by eye: its dimensions, cameras, tasks and subtasks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from emu_robot.core import Floats32
from emu_robot.data.columns import Column
from emu_robot.data.conversion import Conversion
from emu_robot.data.episode import Episode
from emu_robot.data.labels import Segmentation
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.robots.spec import DimensionKind, RobotLayout
from emu_robot.shared.html import picture_url, write_html

SHOWN = 12
"""Least number of episodes on the page, spread over the set; every task has one."""
WIDTH, HEIGHT, AXIS = 900, 70, 18
"""Size of the motion curves, and height of the axis below them [px]."""
TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600)
"""Possible distances of the time axis' ticks [s]."""


class Understood(Protocol):
    """The reading of a set; segmentations by episode index."""

    @property
    def layout(self) -> RobotLayout: ...
    @property
    def conversion(self) -> Conversion: ...
    @property
    def segmentations(self) -> dict[int, Segmentation]: ...
    @property
    def notes(self) -> list[str]: ...


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One dimension of state or action, as a row of a table."""

    name: str
    """Our name."""
    place: str
    """Feature and index in the set."""
    kind: str
    """Kind of its numbers."""
    why: str
    """Evidence for the kind."""
    low: float
    """Least value in the set."""
    high: float
    """Greatest value in the set."""
    meaning: str
    """How the head learns an action; empty for a state."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One subtask of an episode."""

    words: str
    """The subtask in words."""
    start_s: float
    """Time of its first frame [s]."""
    keyframe_s: float
    """Time of its keyframe [s]."""
    start: str
    """Data URL of the first picture."""
    keyframe: str
    """Data URL of the keyframe's picture."""
    x: float
    """Place of the keyframe on the curves [px]."""
    rest: float
    """Width of the rest until the next subtask begins [px]."""


def write_page(buffer: ReplayBuffer, path: Path, found: Understood) -> Path:
    """Write the page, whole or not at all."""
    n_grippers = buffer.layout.n_grippers
    shown = [
        {
            "episode": episode,
            "source": found.segmentations[episode.seed].source.value,
            "cuts": _cuts(episode),
            "curves": _curves(episode.state, n_grippers),
            "ticks": _ticks(len(episode), episode.fps),
        }
        for episode in (buffer.episode(i) for i in shown_episodes([meta["instruction"] for meta in buffer.metadata]))
    ]
    lengths = np.diff(buffer.episode_ends, prepend=0)
    return write_html(
        path,
        Path(__file__).with_name("segmentation.html.j2"),
        name=buffer.path.name,
        buffer=buffer,
        found=found,
        shown=shown,
        tables={
            "State": _dimensions(found.conversion.dimensions.state, buffer.load("frames/state"), found.layout),
            "Action": _dimensions(found.conversion.dimensions.action, buffer.load("frames/action"), found.layout, True),
        },
        tasks=Counter(meta["instruction"] for meta in buffer.metadata).most_common(),
        per_episode=np.bincount([len(meta["subtasks"]) for meta in buffer.metadata]).tolist(),
        seconds=(lengths / buffer.metadata[0]["fps"]).tolist(),
        width=WIDTH,
        height=HEIGHT,
        axis=AXIS,
    )


def shown_episodes(tasks: Sequence[str]) -> list[int]:
    """The first episode of every task, and some more spread over the set, in order."""
    first = {tasks.index(task) for task in set(tasks)}
    spread = np.linspace(0, len(tasks) - 1, min(SHOWN, len(tasks))).round().astype(int).tolist()
    n_more = max(SHOWN - len(first), 0)
    return sorted(first | set([i for i in spread if i not in first][:n_more]))


def _dimensions(
    columns: Sequence[Column], values: Floats32, layout: RobotLayout, are_actions: bool = False
) -> list[Dimension]:
    return [
        Dimension(
            name=column.name,
            place=f"{column.feature}.{column.index}",
            kind=(column.kind or DimensionKind.position).value,
            why=column.why,
            low=float(values[:, i].min()),
            high=float(values[:, i].max()),
            meaning=_meaning(i, column, layout) if are_actions else "",
        )
        for i, column in enumerate(columns)
    ]


def _meaning(i: int, column: Column, layout: RobotLayout) -> str:
    """How the head learns an action, and what it sends to hold still."""
    if i < layout.relative_dims:
        return f"relative to the state's {layout.state_names[i]}; holding sends that"
    held = "0" if column.kind is not None and column.kind.is_rate else "the last command"
    return f"as it is; holding sends {held}"


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
            rest=WIDTH * (following - keyframe - 1) / max(last, 1),
        )
        for words, start, keyframe, following in zip(
            episode.subtasks,
            episode.starts.tolist(),
            episode.keyframes.tolist(),
            [*episode.starts[1:].tolist(), last + 1],
            strict=False,
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


def _ticks(n_frames: int, fps: int) -> list[tuple[float, str]]:
    """Place [px] and label [s] of the time axis' ticks, at most ten unless the episode is too long."""
    last_s = (n_frames - 1) / fps
    step = next((tick for tick in TICKS_S if last_s / tick <= 10), TICKS_S[-1])
    seconds = np.arange(0, last_s + 1e-9, step)
    return [(float(WIDTH * second / max(last_s, 1e-9)), f"{second:g} s") for second in seconds]
