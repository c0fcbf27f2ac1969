"""Reading our own pages back: their text and pictures, and that they need nothing from elsewhere."""

import base64
import io
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image as PillowImage

VOID = {"meta", "img", "br", "line", "circle", "polyline"}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name == "src"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def read_page(path: Path) -> tuple[str, Sequence[PillowImage.Image]]:
    """Its words, spaces as single ones, and its pictures; every element must be closed, every picture inside."""
    reader = _Reader()
    reader.feed(path.read_text())
    assert not reader.open, f"left open: {reader.open}"
    for source in reader.sources:
        assert source.startswith("data:image/"), f"{source[:80]} is not inside the page"
    pictures = [PillowImage.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in reader.sources]
    return " ".join("".join(reader.text).split()), pictures
