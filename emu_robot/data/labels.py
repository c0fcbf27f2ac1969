"""Subtasks of a LeRobotDataset's episode: from the labels the set carries, or from keyframes found in its motion.

Labels are read in this order: what a person wrote by `emu-robot data view` (see `edits`); the columns `subtask_index`
(with meta/subtasks) and `keyframe`; rows of style "subtask" in `language_persistent` or `language_events`, as
lerobot-annotate writes them; a `task_index` that changes within the episode.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emu_robot.core import Image
from emu_robot.data.edits import EDITS, EpisodeEdit, read_edits
from emu_robot.data.lerobot_files import LANGUAGE, EpisodeFiles, LeRobotFiles
from emu_robot.errors import DataError, InvalidValueError

type Frames = NDArray[np.int32]
type Captioner = Callable[[Image, Image, str], str]
"""First image of a subtask, image at its keyframe, instruction of the episode -> the subtask in words."""


UNMARKED = -1
"""`subtask_index` of an episode without subtasks among others that have them."""


class LabelSource(StrEnum):
    """Where an episode's subtasks come from."""

    subtask_index = "subtask_index"
    language = "language"
    task_index = "task_index"
    motion = "motion"
    subgoal = "subgoal"
    edited = "edited"


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """The subtasks of an episode."""

    subtasks: tuple[str, ...]
    """Words of each subtask."""
    starts: Frames
    """(N,) first frame of each."""
    keyframes: Frames
    """(N,) frame at which each is complete."""
    source: LabelSource
    """Where they come from."""


def read_labels(files: LeRobotFiles, episode: EpisodeFiles, rows: pa.Table) -> Segmentation | None:
    """Subtasks by the set's own labels; None without labels. Raises `DataError` for contradictory labels."""
    edit = read_edits(files.root).get(episode.index)
    if edit is not None and edit.subtasks:
        return edited(edit, episode.length, f"{files.root / EDITS}: episode {episode.index}")
    if "subtask_index" in rows.column_names and files.subtasks and not _is_unmarked(rows):
        return _by_index(files, episode, rows, "subtask_index", files.subtasks)
    starts = _language_starts(episode, rows)
    if starts:
        return _segments(list(starts), list(starts.values()), episode.length, LabelSource.language)
    if len(set(_column(rows, "task_index"))) > 1:
        return _by_index(files, episode, rows, "task_index", files.tasks)
    return None


def _is_unmarked(rows: pa.Table) -> bool:
    return bool((np.asarray(_column(rows, "subtask_index")) == UNMARKED).all())


def edited(edit: EpisodeEdit, length: int, where: str) -> Segmentation:
    """The subtasks that a person wrote. Raises `DataError` if they do not fit an episode of so many frames."""
    try:
        edit.check(length)
    except InvalidValueError as error:
        raise DataError(f"{where}: {error}") from error
    return Segmentation(
        subtasks=tuple(subtask.words for subtask in edit.subtasks),
        starts=np.array([subtask.start for subtask in edit.subtasks], np.int32),
        keyframes=np.array([subtask.keyframe for subtask in edit.subtasks], np.int32),
        source=LabelSource.edited,
    )


def _by_index(
    files: LeRobotFiles, episode: EpisodeFiles, rows: pa.Table, name: str, texts: dict[int, str]
) -> Segmentation:
    index_T = np.asarray(_column(rows, name)).ravel()
    starts = [0, *(np.flatnonzero(np.diff(index_T)) + 1).tolist()]
    unknown = sorted(set(index_T.tolist()) - set(texts))
    if unknown:
        raise DataError(f"{episode.table}: {name} {unknown[0]} of episode {episode.index} has no text in meta/")
    words = [texts[int(index_T[start])] for start in starts]
    found = _segments(starts, words, episode.length, LabelSource(name))
    if name != "subtask_index" or "keyframe" not in rows.column_names:
        return found
    given = np.asarray(_column(rows, "keyframe"), np.int32).ravel()[found.starts]
    last = np.append(found.starts[1:], episode.length) - 1
    if (given < found.starts).any() or (given > last).any():
        raise DataError(f"{episode.table}: keyframe of episode {episode.index} lies outside of its subtask")
    return Segmentation(subtasks=found.subtasks, starts=found.starts, keyframes=given, source=found.source)


def _language_starts(episode: EpisodeFiles, rows: pa.Table) -> dict[int, str]:
    """Frame -> the subtask that begins there, in order."""
    persistent, events = (_column(rows, name) if name in rows.column_names else [] for name in LANGUAGE)
    stamps = np.asarray(_column(rows, "timestamp"), np.float64).ravel()
    starts: dict[int, str] = {}
    for row in persistent[0] or [] if persistent else []:
        if row["style"] == "subtask":
            starts[int(np.searchsorted(stamps, row["timestamp"] - 1e-4))] = row["content"]
    for t, frame_rows in enumerate(events):
        for row in frame_rows or []:
            if row["style"] == "subtask":
                starts[t] = row["content"]
    if starts and max(starts) >= episode.length:
        raise DataError(f"{episode.table}: a subtask of episode {episode.index} begins after its last frame")
    return dict(sorted(starts.items()))


def _segments(starts: Sequence[int], words: Sequence[str], length: int, source: LabelSource) -> Segmentation:
    """Subtasks, each complete at the last frame before the next; the first begins with the episode."""
    begins = np.array([0, *starts[1:]], np.int32)
    keyframes = np.append(begins[1:], length).astype(np.int32) - 1
    return Segmentation(subtasks=tuple(words), starts=begins, keyframes=keyframes, source=source)


def _column(rows: pa.Table, name: str) -> list:
    return rows.column(name).to_pylist()
