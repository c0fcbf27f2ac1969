"""The first reading of a set: the kinds of its numbers, the cuts of its episodes, and notes for the user."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emu_robot.data.conversion import Conversion, says_success
from emu_robot.data.keyframes import KeyframeConfig
from emu_robot.data.labels import Segmentation, read_labels
from emu_robot.data.lerobot_files import EpisodeFiles, LeRobotFiles
from emu_robot.data.motion_subtasks import MotionSubtasks, single_subtasks
from emu_robot.errors import DataError
from emu_robot.robots.spec import RobotLayout
from emu_robot.shared.progress import progress


@dataclass(frozen=True, kw_only=True)
class Found:
    """Result of the first reading of a set."""

    layout: RobotLayout
    conversion: Conversion
    """The conversion with the kind of every dimension."""
    segmentations: dict[int, Segmentation]
    """Episode index -> its subtasks, at the set's own rate."""
    method: str
    """Methods that found subtasks where there were no labels."""
    notes: list[str]
    """Notes for the user, a line each."""

    def __str__(self) -> str:
        counts = Counter(found.source.value for found in self.segmentations.values())
        n_subtasks = sum(len(found.subtasks) for found in self.segmentations.values())
        sources = ", ".join(f"{name} ({n})" for name, n in counts.items())
        by = f" by {self.method}" if self.method else ""
        return f"{n_subtasks} subtasks from {sources}{by}"


def read_set(
    files: LeRobotFiles,
    episodes: Sequence[EpisodeFiles],
    conversion: Conversion,
    *,
    keyframes: KeyframeConfig,
    use_labels: bool,
    excluded: Sequence[int],
) -> Found:
    """Read every number of these episodes, and the subtasks of each, from labels or from motion.

    excluded: episodes that are left out. Raises, before anything is converted, `DataError` for damaged data and
    `ConfigError` if resampling needs a kind that is unknown.
    """
    found: dict[int, Segmentation] = {}
    states, actions, successes = [], [], []
    with progress("reading", len(episodes)) as report:
        for episode in episodes:
            try:
                files.check(episode, conversion.cameras.values())
                rows = files.rows(episode)
                state, action = conversion.numbers(files, episode, rows)
                labels = read_labels(files, episode, rows) if use_labels else None
            except DataError as error:
                raise DataError(f"{error}; exclude=[{episode.index}] leaves that episode out") from error
            states.append(state)
            actions.append(action)
            successes.append(says_success(rows))
            if labels is not None:
                found[episode.index] = labels
            report("")
    features = ", ".join(dict.fromkeys(column.feature for column in conversion.dimensions.action))
    if not max(np.ptp(action, axis=0).max() for action in actions) > 0:
        raise DataError(f"{files.root}: {features} is constant in every episode, nothing to learn")
    conversion = conversion.settled(files, states, actions)
    layout, method = conversion.layout(states, actions), ""
    if len(found) < len(episodes):
        subtasks = MotionSubtasks(states, [episode.tasks[0] for episode in episodes], layout, files.fps, keyframes)
        method = subtasks.methods
        for episode, state in zip(episodes, states, strict=True):
            if episode.index not in found:
                found[episode.index] = subtasks.of(state, episode.tasks[0])
    notes = _notes(files, conversion, excluded, successes, found)
    notes += single_subtasks(
        [episode.tasks[0] for episode in episodes], [len(found[episode.index].subtasks) for episode in episodes]
    )
    return Found(layout=layout, conversion=conversion, segmentations=found, method=method, notes=notes)


def _notes(
    files: LeRobotFiles,
    conversion: Conversion,
    excluded: Sequence[int],
    successes: Sequence[bool | None],
    found: Mapping[int, Segmentation],
) -> list[str]:
    """Notes on omissions and unknown kinds. Raises `DataError` if no subtask was completed."""
    notes = [f"left out: camera {camera}, which {why}" for camera, why in files.left_out.items()]
    notes += [
        f"renamed: camera {theirs} is {ours} here" for ours, theirs in conversion.cameras.items() if ours != theirs
    ]
    if excluded:
        notes.append(f"left out: episodes {', '.join(map(str, sorted(set(excluded))))}, by exclude=")
    if conversion.dimensions.left_out:
        notes.append(f"left out: {', '.join(conversion.dimensions.left_out)} of the action")
    if conversion.dimensions.unknown:
        unknown = ", ".join(conversion.dimensions.unknown)
        notes.append(f"not known: whether {unknown} are positions or deltas; taken as positions, kinds.delta= says it")
    if conversion.use_success and all(success is False for success in successes):
        said = f"next.success is False in all {len(successes)} episodes"
        if all(len(one.subtasks) == 1 for one in found.values()):
            raise DataError(f"{files.root}: {said}, so no subtask was completed; use_success=false takes them as done")
        notes.append(f"{said}: their last subtasks teach nothing; use_success=false takes them as done")
    return notes
