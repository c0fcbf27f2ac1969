"""Parts of an answer besides pictures: words with a role, and its end."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Role of words: the answer itself, or the model's reasoning about all of it or about its next picture."""

    TEXT = "text"
    GLOBAL_REASONING = "global_reasoning"
    PICTURE_REASONING = "picture_reasoning"


class EndReason(StrEnum):
    """COMPLETE: the model ended the answer. Else a bound did: room for the next picture, ids, or pictures."""

    COMPLETE = "complete"
    PICTURE_TOO_LARGE = "picture_too_large"
    MAX_IDS = "max_ids"
    MAX_IMAGES = "max_images"


@dataclass(frozen=True, kw_only=True)
class Words:
    """A stretch of words of one role, never empty."""

    text: str
    role: Role = Role.TEXT


@dataclass(frozen=True, kw_only=True)
class End:
    """The last part of every answer; detail: one line that names the bound, empty for a complete answer."""

    reason: EndReason
    detail: str = ""

    @property
    def is_complete(self) -> bool:
        return self.reason is EndReason.COMPLETE
