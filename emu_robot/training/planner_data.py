"""Planner sequences from a replay buffer: instruction, an image of the episode, the next steps.

Shapes: B batch, L sequence, M stored images, E episodes, n codes of an image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emu_robot.data.mapped_images import ImageSource
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError
from emu_robot.models.weights import stage_hash
from emu_robot.tokenizers.image import ImageTokenizer
from emu_robot.tokenizers.interleave import CodedStep, Codes, Interleaver
from emu_robot.training.head_data import taught_ends
from emu_robot.training.holdout import held_out_episodes

type Ints = NDArray[np.int64]


class Try(NamedTuple):
    """A subtask that was pursued, and the image that followed."""

    subtask: str
    """In words."""
    row: int
    """Row of the image."""
    achieved: bool
    """Whether the image is the subtask's keyframe. If not, the try failed, or the arm was still on its way."""


@dataclass(frozen=True, kw_only=True)
class PlanQueries:
    """All moments at which a plan may be asked for, and the true answers in the episodes."""

    codes_Mn: NDArray[np.uint32]
    """(M, n) codes of all images."""
    row: Ints
    """(Q,) image row, ascending; -1 where no image is stored."""
    frame: Ints
    """(Q,) global frame, ascending."""
    episode: Ints
    """(Q,) number of the episode."""
    next_step: Ints
    """(Q,) first subtask that is not complete; the episode's number of subtasks if all are."""
    boundary: NDArray[np.bool_]
    """(Q,) whether the image is a start or keyframe, where plans are usually made."""
    complete: NDArray[np.bool_]
    """(Q,) whether the whole task is complete."""
    instructions: tuple[str, ...]
    """The task of each episode in words."""
    families: tuple[str, ...]
    """The family of each episode's task."""
    subtasks: tuple[tuple[str, ...], ...]
    """The subtasks of each episode in words."""
    keyframe_rows: tuple[Ints, ...]
    """The image rows of each episode's keyframes."""
    taught: NDArray[np.bool_]
    """(Q,) whether a plan may be learned here: in an episode with interventions only where a person corrected."""
    other_rows: tuple[Ints, ...] = ()
    """Image rows of tries in vain and of moments under way, for each episode that was laid out without motion."""

    @classmethod
    def load(
        cls, buffer: ReplayBuffer, camera: str = "", weights: Path = Path(), *, every_frame: bool = False
    ) -> "PlanQueries":
        """All queries of a buffer with codes of `camera` by the image tokenizer in `weights`; without camera no codes.

        every_frame: include frames without a stored image; the caller provides their codes. Images after the last
        keyframe of a failed episode have no answer and are left out; so are all but the first image of an episode that
        needs memory. Raises `DataError` if nothing remains.
        """
        codes = np.empty((buffer.n_images, 0), np.uint32)
        if camera:
            codes = buffer.load_codes(camera, stage_hash(weights, "tokenizer"))
        frame_M = buffer.load("images/frame").astype(np.int64)
        taught_N = taught_ends(buffer) >= 0
        frame_bounds = [0, *buffer.episode_ends.tolist()]
        image_bounds = [0, *buffer.image_ends.tolist()]
        parts: list[tuple[NDArray, ...]] = []
        keyframe_rows, other_rows = [], []
        for e, meta in enumerate(buffer.metadata):
            keyframes = np.asarray(meta["keyframes"], np.int64)
            first, last = image_bounds[e : e + 2]
            frames = frame_M[first:last] - frame_bounds[e]
            rows = np.arange(first, last)
            keyframe_rows.append(first + np.searchsorted(frames, keyframes))
            laid_out = not meta.get("executed", True)
            is_other = ~np.isin(frames, [*meta["starts"], *keyframes]) & laid_out
            other_rows.append(rows[is_other])
            if every_frame:
                frames = np.arange(frame_bounds[e + 1] - frame_bounds[e])
                rows = np.full(len(frames), -1)
            step = np.searchsorted(keyframes, frames, side="right")
            complete = step == len(meta["subtasks"])
            keep = ((step < len(keyframes)) | complete) & ((frames == 0) | (not meta.get("needs_memory", False)))
            boundary = np.isin(frames, [*meta["starts"], *meta["keyframes"]])
            episode = np.full(len(rows), e)
            parts.append(tuple(a[keep] for a in (rows, frame_bounds[e] + frames, episode, step, boundary, complete)))
        if not any(len(part[0]) for part in parts):
            raise DataError(f"{buffer.path}: no completed subtask in {buffer.n_episodes} episodes")
        row, frame, episode, next_step, boundary, complete = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        return cls(
            codes_Mn=codes,
            row=row,
            frame=frame,
            episode=episode,
            next_step=next_step,
            boundary=boundary,
            complete=complete,
            taught=taught_N[frame],
            instructions=tuple(meta["instruction"] for meta in buffer.metadata),
            families=tuple(meta["family"] for meta in buffer.metadata),
            subtasks=tuple(tuple(meta["subtasks"]) for meta in buffer.metadata),
            keyframe_rows=tuple(keyframe_rows),
            other_rows=tuple(other_rows),
        )

    def __len__(self) -> int:
        return len(self.row)

    @property
    def sentences(self) -> set[str]:
        """Every instruction and subtask."""
        return set(self.instructions) | {text for texts in self.subtasks for text in texts}

    def split(self, holdout: float) -> tuple[Ints, Ints]:
        """Query indices of training and of held-out episodes, see `held_out_episodes`; those that are taught."""
        held = held_out_episodes([len(rows) for rows in self.keyframe_rows], holdout)[self.episode]
        return np.flatnonzero(~held & self.taught), np.flatnonzero(held & self.taught)

    def instruction(self, query: int) -> str:
        return self.instructions[self.episode[query]]

    def current_codes(self, query: int) -> NDArray[np.uint32]:
        """(n,) codes of the image that the plan starts from."""
        return self.codes_Mn[self.row[query]]

    def steps(self, query: int, most: int) -> list[CodedStep]:
        """The true next steps, at most `most`."""
        _current, *rows = self.image_rows(query, most)
        return [CodedStep(text, self.codes_Mn[row]) for text, row in zip(self.texts(query, most), rows, strict=True)]

    def tries(self, query: int, most: int) -> list[Try]:
        """What was pursued after the image of a query, at most `most`; the last one was achieved.

        If none of so many was achieved, those in vain are left out.
        """
        e, step = self.episode[query], self.next_step[query]
        own = self.row[query] if self.row[query] >= 0 else self.keyframe_rows[e][step - 1] if step else -1
        tries = [one for one in self._tries(e) if one.row > own]
        last = max((n for n, one in enumerate(tries[:most], 1) if one.achieved), default=0)
        return tries[:last] or [one for one in tries if one.achieved][:1]

    def past(self, query: int, most: int) -> list[CodedStep]:
        """The last `most` steps pursued before the image of a query, each with the image that it was planned from."""
        e, own = self.episode[query], self.row[query]
        tries = [one for one in self._tries(e) if one.row <= own]
        begin = int(self.row[np.searchsorted(self.episode, e)])
        if own not in (begin, *(one.row for one in tries)):
            step = min(int(self.next_step[query]), len(self.subtasks[e]) - 1)
            tries.append(Try(self.subtasks[e][step], int(own), achieved=False))
        planned_from = [begin, *(one.row for one in tries)]
        steps = [CodedStep(one.subtask, self.codes_Mn[row]) for one, row in zip(tries, planned_from, strict=False)]
        return steps[max(len(steps) - most, 0) :]

    def _tries(self, e: int) -> list[Try]:
        """All that was pursued in an episode, in the order of the images that followed."""
        keyframes, others = self.keyframe_rows[e], self.other_rows[e] if self.other_rows else np.zeros(0, np.int64)
        rows = np.sort(np.concatenate([keyframes, others]))
        steps = np.searchsorted(keyframes, rows).tolist()
        return [
            Try(self.subtasks[e][step], row, achieved)
            for step, row, achieved in zip(steps, rows.tolist(), np.isin(rows, keyframes).tolist(), strict=True)
        ]

    def texts(self, query: int, most: int) -> tuple[str, ...]:
        """The words of the true next steps that were completed, at most `most`."""
        e, first = self.episode[query], self.next_step[query]
        return self.subtasks[e][first : min(first + most, len(self.keyframe_rows[e]))]

    def image_rows(self, query: int, most: int) -> list[int]:
        """Rows of the image that the plan starts from and of the next keyframes, at most `most`."""
        first = self.next_step[query]
        return [int(self.row[query]), *self.keyframe_rows[self.episode[query]][first : first + most].tolist()]

    def is_last(self, query: int, n_steps: int) -> bool:
        """Whether the task is complete after `n_steps` more steps."""
        return int(self.next_step[query]) + n_steps == len(self.subtasks[self.episode[query]])


class SequenceWriter:
    """Turns queries into ids and weights. Sentences are tokenized once."""

    def __init__(self, queries: PlanQueries, interleaver: Interleaver, weights: dict[str, float]) -> None:
        self._queries, self._interleaver, self._weights = queries, interleaver, weights
        self._ids = {text: interleaver.text.encode(text) for text in queries.sentences}
        self._template = interleaver.template
        self._is_code = np.array([token is None for token in self._template])

    def write(
        self,
        query: int,
        n_tries: int,
        codes: Sequence[Codes] | None = None,
        *,
        wordless: bool = False,
        renamed: Mapping[str, str] | None = None,
    ) -> "Row":
        """The sequence that begins at a query's image and holds up to `n_tries` of what was pursued then.

        codes: (n,) codes of the first image and of each try, in place of the stored ones; they then fix the number
        of tries. wordless: without instruction and subtasks, as guidance reads it; only codes are targets. renamed:
        instruction and subtasks -> other words, with which no image can be told; only words are targets then.
        """
        queries, vocabulary = self._queries, self._interleaver.vocabulary
        tries = queries.tries(query, n_tries if codes is None else len(codes) - 1)
        rows = [int(queries.row[query]), *(one.row for one in tries)]
        images = codes or [queries.codes_Mn[row] for row in rows]
        instruction = [] if wordless else self._encode(queries.instruction(query), renamed)
        ids = [vocabulary.bos, *instruction, *self._interleaver.image_ids(images[0])]
        weights, seen = [0.0] * len(ids), [True] * len(ids)
        text, image = 0.0 if wordless else self._weights["text"], 0.0 if renamed else self._weights["image"]
        changed = image * self._weights["changed"]
        for one, (old, new) in zip(tries, pairwise(images), strict=True):
            subtask = [] if wordless else self._encode(one.subtask, renamed)
            ids += [vocabulary.bos_step, *subtask, *self._interleaver.image_ids(new)]
            inside = np.zeros(len(self._template))
            inside[self._is_code] = np.where(old != new, changed, image) * one.achieved
            weights += [text] * (len(subtask) + 2) + inside.tolist() + [0.0]
            seen += [not one.achieved] * (len(ids) - len(seen))
        if queries.is_last(query, sum(one.achieved for one in tries)):
            ids.append(vocabulary.eos)
            weights.append(text)
            seen.append(False)
        begins = [i for i, token in enumerate(ids) if token == vocabulary.boi]
        return Row(ids, weights, seen, [] if codes else [*zip(rows, begins, strict=True)])

    def _encode(self, text: str, renamed: Mapping[str, str] | None) -> list[int]:
        return self._interleaver.text.encode(renamed[text]) if renamed else self._ids[text]


class Row(NamedTuple):
    """One sequence; each list but the last has an entry for each id."""

    ids: list[int]
    """The ids."""
    weights: list[float]
    """Weight as a target; 0 for the prompt, for images that no plan should show, and for ids that the grammar fixes."""
    seen: list[bool]
    """Whether the id belongs to the prompt, or to a try whose image was seen and not planned."""
    pictures: list[tuple[int, int]]
    """Image row, and place of its boi in the sequence, of every stored image; none for images that are not stored."""


class ShiftedImages:
    """Stored images, shifted by any number of pixels around the edges and encoded again.

    An encoder that codes every cell by itself gives the same objects other places and other codes. This adds examples.
    """

    def __init__(self, images: ImageSource, tokenizer: ImageTokenizer) -> None:
        self._images, self._tokenizer = images, tokenizer

    def codes(self, rows: Sequence[Sequence[int]], shifts: Ints) -> list[list[Codes]]:
        """Codes (n,) of each group's image rows, the group shifted by `shifts` (groups, 2) [px] down and right."""
        moved = [
            np.roll(self._images[row], shift.tolist(), (0, 1))
            for group, shift in zip(rows, shifts, strict=True)
            for row in group
        ]
        if not moved:
            return []
        codes = iter(self._tokenizer.encode_images(np.stack(moved)))
        return [[next(codes) for _ in group] for group in rows]
