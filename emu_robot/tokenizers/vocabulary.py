"""One id space for words, control tokens and image codes: [text][control][codes].

The text block comes first, so that the ids of a text tokenizer stay as they are. Codes come last: code = id - offset.
A model embeds a code of several codebooks as the sum of an embedding for each digit, so that it needs few of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from emu_robot.errors import InvalidValueError

CONTROL = ("pad", "bos", "eos", "boi", "eoi", "img", "eol", "bos_step")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The ids of a planner.

    bos starts a sequence, bos_step a language step, boi and eoi enclose an image, eos ends the plan: the task is
    complete after the steps before it. img and eol occur only in image formats that write size and rows.
    """

    text_size: int
    """Number of ids of the text tokenizer."""
    book_size: int
    """Number of entries of each image codebook."""
    books: int = 1
    """Number of image codebooks. With several, a code is a number with one digit for each of them."""

    def __post_init__(self) -> None:
        if min(self.text_size, self.book_size, self.books) < 1:
            given = f"text_size is {self.text_size}, book_size is {self.book_size}, books is {self.books}"
            raise InvalidValueError(f"{given}; all must be positive")

    def _control(self, name: str) -> int:
        return self.text_size + CONTROL.index(name)

    @cached_property
    def pad(self) -> int:
        return self._control("pad")

    @cached_property
    def bos(self) -> int:
        return self._control("bos")

    @cached_property
    def eos(self) -> int:
        return self._control("eos")

    @cached_property
    def boi(self) -> int:
        return self._control("boi")

    @cached_property
    def eoi(self) -> int:
        return self._control("eoi")

    @cached_property
    def img(self) -> int:
        return self._control("img")

    @cached_property
    def eol(self) -> int:
        return self._control("eol")

    @cached_property
    def bos_step(self) -> int:
        return self._control("bos_step")

    @cached_property
    def first_code(self) -> int:
        """Id of image code 0."""
        return self.text_size + len(CONTROL)

    @cached_property
    def n_codes(self) -> int:
        """Number of different image codes."""
        return self.book_size**self.books

    @cached_property
    def size(self) -> int:
        """Number of ids."""
        return self.first_code + self.n_codes

    @cached_property
    def rows(self) -> int:
        """Number of embeddings that a model needs: one for each word, control token and entry of each codebook."""
        return self.first_code + self.books * self.book_size

    def book_rows(self, book: int) -> slice:
        """The embeddings of a codebook's entries."""
        begin = self.first_code + book * self.book_size
        return slice(begin, begin + self.book_size)

    def next_position(self, position: int, token: int, image_stride: int) -> int:
        """Position id of `token` after a token at `position` (-1 before the first); see `Interleaver.image_stride`."""
        position += 1
        if image_stride and token == self.boi:
            return -(-position // image_stride) * image_stride
        return position

    def without_words(self, ids: Sequence[int]) -> list[int]:
        """`ids` without the words between images."""
        kept, inside = [], False
        for token in ids:
            inside = (inside or token == self.boi) and token != self.eoi
            if inside or token >= self.text_size:
                kept.append(token)
        return kept

    def is_code(self, token: int) -> bool:
        return self.first_code <= token < self.size

    def code_ids(self, codes: NDArray[np.integer]) -> NDArray[np.int64]:
        """Image codes -> ids. Raises `InvalidValueError` for a code outside the codebook."""
        if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < self.n_codes:
            raise InvalidValueError(f"codes span {codes.min()}..{codes.max()}, must be in 0..{self.n_codes - 1}")
        return codes.astype(np.int64) + self.first_code
