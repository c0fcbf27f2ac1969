"""Writes self-contained HTML pages from jinja2 templates, with pictures and clips inside the file."""

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image as PillowImage

from emu_robot.core import Image
from emu_robot.shared.files import replace_text

MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".mp4": "video/mp4"}


def write_html(path: Path, template: Path, **content: Any) -> Path:
    """Fill in `template` with `content` and write the page atomically. It may extend templates beside it."""
    environment = Environment(
        loader=FileSystemLoader(template.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    html = environment.get_template(template.name).render(**content)
    replace_text(path, html)
    return path


def picture_url(image: Image) -> str:
    """An image (H, W, 3) uint8 as a data URL."""
    file = io.BytesIO()
    PillowImage.fromarray(image).save(file, "JPEG", quality=88)
    return _url("image/jpeg", file.getvalue())


def file_url(path: Path) -> str | None:
    """A file of one of the `MEDIA_TYPES` as a data URL; None if it does not exist."""
    return _url(MEDIA_TYPES[path.suffix], path.read_bytes()) if path.exists() else None


def _url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
