"""One id space for words, control tokens and image codes: [text][control][codes].

The text block comes first, so that the ids of a text tokenizer stay as they are. Codes come last: code = id - offset.
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
    n_codes: int
    """Number of entries of the image codebook."""

    def __post_init__(self) -> None:
        if self.text_size < 1 or self.n_codes < 1:
            raise InvalidValueError(f"text_size is {self.text_size}, n_codes is {self.n_codes}; both must be positive")

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
    def size(self) -> int:
        """Number of ids."""
        return self.first_code + self.n_codes

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
