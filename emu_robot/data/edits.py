"""What a person decided about episodes of a LeRobotDataset: keep or discard, subtasks; one file in its folder meta/.

The file is replaced whole: a kill leaves the old decisions or the new ones. The set's own files stay as they are.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from emu_robot.errors import DataError, InvalidValueError
from emu_robot.shared.files import replace_json
from emu_robot.shared.typed import build

EDITS = "meta/emu_robot_edits.json"


@dataclass(frozen=True, kw_only=True)
class EditedSubtask:
    """A subtask as a person named and cut it."""

    words: str
    """The subtask in words."""
    start: int
    """First frame."""
    keyframe: int
    """Frame at which it is complete."""


@dataclass(frozen=True, kw_only=True)
class EpisodeEdit:
    """Decisions about one episode."""

    keep: bool = True
    """Whether trainings see it."""
    subtasks: tuple[EditedSubtask, ...] = ()
    """Its subtasks in order; empty: as the set or its motion tells."""

    def check(self, length: int) -> None:
        """Raise `InvalidValueError` unless the subtasks lie one after the other in an episode of so many frames."""
        starts = [subtask.start for subtask in self.subtasks]
        for i, (subtask, end) in enumerate(zip(self.subtasks, [*starts[1:], length], strict=False)):
            what = f"subtask {i + 1}"
            if not subtask.words.strip():
                raise InvalidValueError(f"{what} has no words")
            if i == 0 and subtask.start != 0:
                raise InvalidValueError(f"{what} starts at frame {subtask.start}, must start at 0")
            if not subtask.start <= subtask.keyframe < end:
                last = f"start {subtask.start}, keyframe {subtask.keyframe}, the next begins at {end}"
                raise InvalidValueError(f"{what}: the keyframe must lie within it ({last})")


def read_edits(root: Path) -> Mapping[int, EpisodeEdit]:
    """Index of an episode -> decisions about it; empty without any. Raises `DataError` for a damaged file."""
    path = root / EDITS
    if not path.exists():
        return {}
    written = path.stat()
    return _read(path, written.st_mtime_ns, written.st_size)


def write_edit(root: Path, index: int, edit: EpisodeEdit, length: int) -> None:
    """Keep the decisions about an episode of `length` frames. Raises `InvalidValueError` for impossible subtasks."""
    edit.check(length)
    edits = {**read_edits(root), index: edit}
    kept = {str(i): asdict(one) for i, one in sorted(edits.items()) if one != EpisodeEdit()}
    replace_json(root / EDITS, {"episodes": kept})


def discarded(root: Path, known: Sequence[int]) -> list[int]:
    """The episodes among these that a person discarded."""
    edits = read_edits(root)
    return [index for index in known if index in edits and not edits[index].keep]


@lru_cache(maxsize=4)
def _read(path: Path, _written_ns: int, _size: int) -> Mapping[int, EpisodeEdit]:
    try:
        episodes: dict[str, Any] = json.loads(path.read_text())["episodes"]
        return {int(index): build(EpisodeEdit, values, f"episode {index}") for index, values in episodes.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidValueError) as error:
        raise DataError(f"{path}: not the edits of a dataset ({error}); remove it to begin again") from error
