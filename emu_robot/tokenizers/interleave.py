"""Converts plans into sequences of ids, and back.

    bos instruction boi codes eoi (bos_step subtask boi codes eoi)* eos

A plan that remembers begins with the steps that were pursued before: the first image is the oldest one, and each of
these steps ends with the image that was seen then, not the one that was planned.

Knows words and codes, neither pixels nor the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emu_robot.errors import InvalidValueError, ShapeError
from emu_robot.shared.settings import check_ranges, number
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.tokenizers.vocabulary import Vocabulary

type Codes = NDArray[np.integer]


class CodedStep(NamedTuple):
    """A language step and the codes (n,) of the image at its completion."""

    subtask: str
    codes: Codes


@dataclass(frozen=True, kw_only=True)
class ImageSpelling:
    """Ids around the codes of an image."""

    size_tokens: bool = False
    """Write "rows*columns" and img after boi, as Emu3.5 does."""
    row_ends: bool = False
    """Put eol between rows of codes, as Emu3.5 does."""


@dataclass(frozen=True, kw_only=True)
class ImageFormat(ImageSpelling):
    """Format of an image in a sequence. The tokenizer fixes the number of codes."""

    rows: int = number(8, 1, 2**10)
    """Number of rows of codes."""
    columns: int = number(8, 1, 2**10)
    """Number of codes per row."""

    def __post_init__(self) -> None:
        check_ranges(self, "image")

    @property
    def n_codes(self) -> int:
        return self.rows * self.columns


class References:
    """Reads a sequence id by id. Inside an image it gives the id of the image before at the next place."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.before: list[int] = []  # ids inside the last whole image
        self._current: list[int] | None = None

    def after(self, token: int) -> int:
        """Read an id. Returns the id of the image before at the next place; -1 outside images and in the first one."""
        if token == self._vocabulary.boi:
            self._current = []
        elif token == self._vocabulary.eoi and self._current is not None:
            self.before, self._current = self._current, None
        elif self._current is not None:
            self._current.append(token)
        if self._current is None or len(self._current) >= len(self.before):
            return -1
        return self.before[len(self._current)]


@dataclass(frozen=True)
class Interleaver:
    """Makes sequences of one vocabulary, text tokenizer and image format.

    image_stride: the position id of every boi is rounded up to a multiple of it. The same place in two images is then a
    multiple apart, for any number of words between them; 0 numbers the tokens one by one, as Emu3.5 does.
    """

    text: TextTokenizer
    vocabulary: Vocabulary
    image: ImageFormat = field(default_factory=ImageFormat)
    image_stride: int = 0

    @property
    def template(self) -> tuple[int | None, ...]:
        """The ids between boi and eoi; None at the place of a code."""
        form, vocabulary = self.image, self.vocabulary
        ids: list[int | None] = []
        if form.size_tokens:
            ids += [*self.text.encode(f"{form.rows}*{form.columns}"), vocabulary.img]
        for row in range(form.rows):
            ids += [vocabulary.eol] if form.row_ends and row else []
            ids += [None] * form.columns
        return tuple(ids)

    def naming_places(self) -> NDArray[np.int64]:
        """(n,) index into `template` of the cell below and to the right of each cell, which has read all around it."""
        rows, columns = (np.minimum(np.arange(count) + 1, count - 1) for count in (self.image.rows, self.image.columns))
        inside = np.flatnonzero([token is None for token in self.template])
        return inside[(rows[:, None] * self.image.columns + columns).ravel()]

    def image_ids(self, codes: Codes) -> list[int]:
        """boi ... eoi. Raises `ShapeError` unless codes is (n,)."""
        if codes.shape != (self.image.n_codes,):
            raise ShapeError("image codes", codes.shape, f"({self.image.n_codes},)")
        values = iter(self.vocabulary.code_ids(codes).tolist())
        inside = [next(values) if token is None else token for token in self.template]
        return [self.vocabulary.boi, *inside, self.vocabulary.eoi]

    def prompt(self, instruction: str, codes: Codes, past: Sequence[CodedStep] = ()) -> list[int]:
        """Ids before the plan.

        codes: (n,) of the current image. past: the subtasks pursued before, each with the image that it was planned
        from, oldest first.
        """
        words = [self.vocabulary.bos, *self.text.encode(instruction)]
        ids = [*words, *self.image_ids(past[0].codes if past else codes)]
        seen = [*(step.codes for step in past[1:]), codes]
        for step, after in zip(past, seen, strict=False):
            ids += self.step(CodedStep(step.subtask, after))
        return ids

    def question(self, question: str, images: Sequence[Codes]) -> list[int]:
        """Ids before the answer to a question about images, oldest first; codes (n,) of each."""
        ids = [self.vocabulary.bos, *self.text.encode(question)]
        for codes in images[:-1]:
            ids += [*self.image_ids(codes), self.vocabulary.bos_step]
        return [*ids, *self.image_ids(images[-1]), self.vocabulary.bos_step]

    def step(self, step: CodedStep) -> list[int]:
        """Ids of one plan step."""
        return [self.vocabulary.bos_step, *self.text.encode(step.subtask), *self.image_ids(step.codes)]

    def encode(self, instruction: str, codes: Codes, steps: Sequence[CodedStep], complete: bool) -> list[int]:
        """Ids of a whole sequence, with eos at its end if `complete`."""
        ids = self.prompt(instruction, codes)
        for step in steps:
            ids += self.step(step)
        return [*ids, self.vocabulary.eos] if complete else ids

    def decode_step(self, ids: Sequence[int]) -> CodedStep:
        """The inverse of `step`. Raises `InvalidValueError` naming the first wrong id."""
        vocabulary = self.vocabulary
        if vocabulary.boi not in ids or ids[0] != vocabulary.bos_step or ids[-1] != vocabulary.eoi:
            raise InvalidValueError(f"{len(ids)} ids are not bos_step, words, boi, image, eoi")
        begin = list(ids).index(vocabulary.boi)
        inside = ids[begin + 1 : -1]
        if len(inside) != len(self.template):
            raise InvalidValueError(f"an image of {len(inside)} ids, expected {len(self.template)}")
        codes = []
        for i, (token, wanted) in enumerate(zip(inside, self.template, strict=True)):
            if token != wanted and not (wanted is None and vocabulary.is_code(token)):
                raise InvalidValueError(f"id {token} at place {i} of an image")
            if wanted is None:
                codes.append(token - vocabulary.first_code)
        if any(token >= vocabulary.text_size for token in ids[1:begin]):
            raise InvalidValueError("a subtask holds ids that are no words")
        return CodedStep(self.text.decode(ids[1:begin]), np.array(codes, np.uint32))

    def decode(self, ids: Sequence[int]) -> tuple[list[CodedStep], bool]:
        """The steps in the ids after a prompt, and whether they end with eos."""
        complete = bool(ids) and ids[-1] == self.vocabulary.eos
        body = list(ids[:-1] if complete else ids)
        steps = []
        while body:
            if self.vocabulary.eoi not in body:
                raise InvalidValueError(f"{len(body)} ids at the end are no whole step")
            end = body.index(self.vocabulary.eoi) + 1
            steps.append(self.decode_step(body[:end]))
            body = body[end:]
        return steps, complete

    def references(self, ids: Sequence[int]) -> list[int]:
        """For each id the id of the image before at the next place, see `References`."""
        references = References(self.vocabulary)
        return [references.after(token) for token in ids]

    def positions(self, ids: Sequence[int], position: int = -1) -> list[int]:
        """Position ids of a sequence that follows a token at `position`."""
        result = []
        for token in ids:
            position = self.vocabulary.next_position(position, token, self.image_stride)
            result.append(position)
        return result
