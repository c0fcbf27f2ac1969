"""Compares words as people do: upper and lower case and the width of spaces make no difference."""

import unicodedata


def folded(text: str) -> str:
    """A text's form for comparison. Texts keep their own form where they are stored and shown."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def same_words(a: str | None, b: str | None) -> bool:
    """Whether two texts say the same; None, no text, is the same only as None."""
    return a is b if a is None or b is None else folded(a) == folded(b)
