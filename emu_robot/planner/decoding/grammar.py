"""What may come next in a plan, so that every sequence produced can be read back. Knows ids only.

A plan is a series of steps; a step is words, then an image whose ids a template fixes; the plan may end only where a
step could begin. The grammar is small, so it is data that decoders act on rather than a mask over the vocabulary.
"""

from dataclasses import dataclass

from emu_robot.errors import InvalidValueError
from emu_robot.tokenizers.interleave import Interleaver
from emu_robot.tokenizers.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class PlanGrammar:
    """The rules of one vocabulary and image format.

    template: what stands between boi and eoi; None where a code goes. blank: words that may not begin a subtask (they
    could leave it empty). max_words: at most so many ids of words in a subtask. image_stride: see `Interleaver`.
    """

    vocabulary: Vocabulary
    template: tuple[int | None, ...]
    blank: tuple[int, ...] = ()
    max_words: int = 24
    image_stride: int = 0

    def __post_init__(self) -> None:
        if self.max_words < 1 or None not in self.template:
            raise InvalidValueError(f"max_words is {self.max_words}, must be positive; an image must hold a code")
        if len(self.blank) >= self.vocabulary.text_size:
            raise InvalidValueError("no word may begin a subtask")

    @classmethod
    def of(cls, interleaver: Interleaver, max_words: int = 24) -> "PlanGrammar":
        """The rules under which `interleaver` can read everything back."""
        text = interleaver.text
        return cls(
            vocabulary=interleaver.vocabulary,
            template=interleaver.template,
            blank=tuple(token for token in range(text.size) if not text.decode([token])),
            max_words=max_words,
            image_stride=interleaver.image_stride,
        )

    @property
    def code_ids(self) -> slice:
        """Ids of image codes."""
        return slice(self.vocabulary.first_code, self.vocabulary.size)

    @property
    def step_length(self) -> int:
        """The most ids one step can take."""
        return 1 + self.max_words + 1 + len(self.template) + 1
