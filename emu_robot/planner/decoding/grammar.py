"""The grammar of plans, so that every produced sequence can be read back. Knows ids only.

A plan is a series of steps. A step is words, then an image in the form of a template. The plan may end only where a
step could begin. Decoders act on this small grammar as data, without a mask over the vocabulary.
"""

from dataclasses import dataclass

from emu_robot.errors import InvalidValueError
from emu_robot.tokenizers.interleave import Interleaver
from emu_robot.tokenizers.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class PlanGrammar:
    """The rules of one vocabulary and image format."""

    vocabulary: Vocabulary
    """Ids by role."""
    template: tuple[int | None, ...]
    """Ids between boi and eoi; None for a code."""
    blank: tuple[int, ...] = ()
    """Ids that may not begin a subtask, as they could leave it empty."""
    max_words: int = 24
    """Most ids of words in a subtask; at least 1."""
    image_stride: int = 0
    """See `Interleaver`."""

    def __post_init__(self) -> None:
        if self.max_words < 1 or None not in self.template:
            raise InvalidValueError(f"max_words is {self.max_words}, must be positive; an image must hold a code")
        if len(self.blank) >= self.vocabulary.text_size:
            raise InvalidValueError("no word may begin a subtask")

    @classmethod
    def of(cls, interleaver: Interleaver, max_words: int = 24) -> "PlanGrammar":
        """The rules of sequences that `interleaver` can read back."""
        text = interleaver.text
        return cls(
            vocabulary=interleaver.vocabulary,
            template=interleaver.template,
            blank=tuple(token for token in range(text.size) if not text.decode([token])),
            max_words=max_words,
            image_stride=interleaver.image_stride,
        )

    @property
    def step_length(self) -> int:
        """Most ids of a step."""
        return 1 + self.max_words + 1 + len(self.template) + 1
