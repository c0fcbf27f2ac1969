"""Write an answer of the world model as one page, with its pictures as PNG and its words and order as JSON."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from emu_robot.core import Image
from emu_robot.emu35.answer import End, Words
from emu_robot.shared.files import replace_text
from emu_robot.shared.html import picture_url, write_html

TEMPLATE = Path(__file__).with_name("answer_page.html.j2")


def write_answer(
    folder: Path, question: str, pictures: Sequence[Image], parts: Iterable[Words | Image | End], **about: Any
) -> Path:
    """Write `index.html`, `answer.json` and `01.png`, `02.png` … under `folder`; return the page.

    about: other facts for the page and the JSON, such as the task and the weights.
    """
    from PIL import Image as PillowImage

    folder.mkdir(parents=True, exist_ok=True)
    told: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    end = ""
    for part in parts:
        if isinstance(part, Words):
            told.append({"role": part.role.value, "text": part.text})
            shown.append({"role": part.role.value.replace("_", " "), "text": part.text.strip(), "url": None})
        elif isinstance(part, End):
            end = f"{part.reason}: {part.detail}" if part.detail else part.reason.value
        else:
            name = f"{sum('picture' in one for one in told) + 1:02d}.png"
            PillowImage.fromarray(part).save(folder / name)
            told.append({"picture": name})
            shown.append({"role": "picture", "text": name, "url": picture_url(part)})
    content = {**about, "question": question, "end": end}
    replace_text(folder / "answer.json", json.dumps({**content, "parts": told}, indent=1, ensure_ascii=False) + "\n")
    asked = [picture_url(picture) for picture in pictures]
    return write_html(
        folder / "index.html", TEMPLATE, question=question, asked=asked, parts=shown, end=end, about=about
    )
