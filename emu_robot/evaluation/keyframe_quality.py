"""Compares keyframes found in motion with those that the experts' environment recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from emu_robot.data.keyframes import Frames, KeyframeConfig
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.data.task_keyframes import TaskKeyframes
from emu_robot.evaluation.statistics import Proportion
from emu_robot.shared.files import replace_json
from emu_robot.shared.settings import check_ranges, number


@dataclass(frozen=True, kw_only=True)
class KeyframeQualityConfig:
    """Settings of a comparison of found keyframes with recorded ones."""

    buffer: Path = Path("outputs/data/plans")
    """Replay buffer with recorded keyframes."""
    tolerance: int = number(5, 0)
    """Distance at which a found keyframe still counts as right [frames]."""
    out: Path = Path("outputs/measure")
    """Folder of keyframe_quality.json."""
    keyframes: KeyframeConfig = field(default_factory=KeyframeConfig)
    """The search for keyframes."""

    def __post_init__(self) -> None:
        check_ranges(self)


class Matches(NamedTuple):
    """Found keyframes matched with the true ones."""

    precision: Proportion
    """Found keyframes that have a match."""
    recall: Proportion
    """True keyframes that have a match."""
    offsets: list[int]
    """Found minus true, per match [frames]."""


def keyframe_quality(config: KeyframeQualityConfig) -> Matches:
    """Print precision and recall over the successful episodes of the buffer, and write them to `out`."""
    buffer = ReplayBuffer.open(config.buffer)
    buffer.require_actions()
    successes = [i for i, meta in enumerate(buffer.metadata) if meta["success"]]
    bounds, state = [0, *buffer.episode_ends.tolist()], buffer.load("frames/state")
    states = [state[bounds[i] : bounds[i + 1]] for i in successes]
    true = [np.asarray(buffer.metadata[i]["keyframes"], np.int32) for i in successes]
    tasks = [buffer.metadata[i]["instruction"] for i in successes]
    finders = TaskKeyframes(states, tasks, buffer.layout.gripper_states, buffer.metadata[0]["fps"], config.keyframes)
    keyframes = [finders.of(task).find(state) for task, state in zip(tasks, states, strict=True)]
    found = compare_keyframes(keyframes, true, config.tolerance)
    figures = {
        "method": ", ".join(finders.methods),
        "episodes": len(states),
        "precision": str(found.precision),
        "recall": str(found.recall),
        "median_offset": float(np.median(found.offsets)) if found.offsets else None,
    }
    replace_json(config.out / "keyframe_quality.json", figures)
    for name, value in figures.items():
        print(f"{name}: {value}")
    return found


def compare_keyframes(found: Sequence[Frames], true: Sequence[Frames], tolerance: int) -> Matches:
    """Match each found keyframe of each episode to the nearest true one within `tolerance` that has no match yet."""
    offsets: list[int] = []
    for some, expected in zip(found, true, strict=True):
        free = expected.tolist()
        for t in some.tolist():
            nearest = min(free, key=lambda frame: abs(frame - t), default=None)
            if nearest is not None and abs(nearest - t) <= tolerance:
                free.remove(nearest)
                offsets.append(t - nearest)
    n_found, n_true = sum(map(len, found)), sum(map(len, true))
    return Matches(Proportion(len(offsets), n_found), Proportion(len(offsets), n_true), offsets)
