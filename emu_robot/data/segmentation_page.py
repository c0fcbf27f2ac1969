"""A page to check the reading of a dataset by eye: its dimensions, cameras, tasks and subtasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emu_robot.core import Floats32
from emu_robot.data.columns import Column
from emu_robot.data.conversion import Conversion
from emu_robot.data.episode import Episode
from emu_robot.data.labels import Segmentation
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.robots.spec import DimensionKind, RobotLayout
from emu_robot.shared.html import picture_url, write_html
from emu_robot.shared.words import folded

SHOWN, MOST_TASKS = 12, 200
"""Least number of episodes on the page, spread over the set; number of tasks up to which every task has one, so that
the page stays light. The list of tasks is always whole."""
POINTS = 300
"""Most points of a motion curve."""
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


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of the set, under the words of its first episode; upper and lower case are alike."""

    words: str
    """The task in words."""
    n_episodes: int
    """Number of its episodes."""
    fewest: int
    """Least number of subtasks of its episodes."""
    most: int
    """Greatest number of subtasks of its episodes."""
    shown: list[dict[str, Any]]
    """Its episodes on the page, with their cuts and curves."""


def write_page(buffer: ReplayBuffer, path: Path, found: Understood) -> Path:
    """Write the page, whole or not at all."""
    n_grippers = buffer.layout.n_grippers
    numbers: dict[str, list[int]] = {}
    for i, meta in enumerate(buffer.metadata):
        numbers.setdefault(folded(meta["instruction"]), []).append(i)
    chosen = set(shown_episodes(list(numbers.values()), buffer.n_episodes))
    tasks = []
    for own in numbers.values():
        counts = [len(buffer.metadata[i]["subtasks"]) for i in own]
        episodes = [buffer.episode(i) for i in own if i in chosen]
        shown = [
            {
                "episode": episode,
                "source": found.segmentations[episode.seed].source.value,
                "cuts": _cuts(episode),
                "curves": _curves(episode.state, n_grippers),
                "ticks": _ticks(len(episode), episode.fps),
            }
            for episode in episodes
        ]
        words = buffer.metadata[own[0]]["instruction"]
        tasks.append(Task(words=words, n_episodes=len(own), fewest=min(counts), most=max(counts), shown=shown))
    lengths = np.diff(buffer.episode_ends, prepend=0)
    return write_html(
        path,
        Path(__file__).with_name("segmentation.html.j2"),
        name=buffer.path.name,
        buffer=buffer,
        found=found,
        tables={
            "State": _dimensions(found.conversion.dimensions.state, buffer.load("frames/state"), found.layout),
            "Action": _dimensions(found.conversion.dimensions.action, buffer.load("frames/action"), found.layout, True),
        },
        tasks=tasks,
        per_episode=np.bincount([len(meta["subtasks"]) for meta in buffer.metadata]).tolist(),
        seconds=(lengths / buffer.metadata[0]["fps"]).tolist(),
        width=WIDTH,
        height=HEIGHT,
        axis=AXIS,
    )


def shown_episodes(tasks: Sequence[Sequence[int]], n_episodes: int) -> list[int]:
    """The first episode of every task, at most of `MOST_TASKS`, and some more spread over the set, in order.

    tasks: the episodes of each task.
    """
    first = {own[0] for own in tasks[:MOST_TASKS]}
    spread = np.linspace(0, n_episodes - 1, min(SHOWN, n_episodes)).round().astype(int).tolist()
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
    kept = np.unique(np.linspace(0, len(state) - 1, min(len(state), POINTS)).round().astype(int))
    x = WIDTH * kept / max(len(state) - 1, 1)
    lines = []
    for value in (whole[kept] for whole in values):
        y = HEIGHT - 5 - (HEIGHT - 10) * (value - value.min()) / max(float(np.ptp(value)), 1e-9)
        lines.append(" ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)))
    return lines


def _ticks(n_frames: int, fps: int) -> list[tuple[float, str]]:
    """Place [px] and label [s] of the time axis' ticks, at most ten unless the episode is too long."""
    last_s = (n_frames - 1) / fps
    step = next((tick for tick in TICKS_S if last_s / tick <= 10), TICKS_S[-1])
    seconds = np.arange(0, last_s + 1e-9, step)
    return [(float(WIDTH * second / max(last_s, 1e-9)), f"{second:g} s") for second in seconds]
