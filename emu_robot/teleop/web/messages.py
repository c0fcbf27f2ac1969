"""What the page and its server tell each other, in JSON; pictures are JPEGs with the camera's index before them."""

import io
import json
import math
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from emu_robot.core import Image
from emu_robot.errors import InvalidValueError
from emu_robot.teleop.view import View

LARGEST = 4096
"""Characters of a message from a page."""
JPEG_QUALITY = 85


def read_message(text: str) -> dict[str, Any]:
    """A message from a page. Raises `InvalidValueError`."""
    if len(text) > LARGEST:
        raise InvalidValueError(f"a message of {len(text)} characters; at most {LARGEST}")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(f"a message is no JSON: {error}") from error
    if not isinstance(message, dict):
        raise InvalidValueError("a message must be a table")
    return message


def read_number(message: dict[str, Any]) -> int:
    """The page's number of a message; 0 without one."""
    number = message.get("n", 0)
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**53 else 0


def write_view(view: View, operator: str) -> dict[str, Any]:
    """A view for the page of `operator`."""
    return {
        "driven": view.is_driven,
        "gate": view.gate.value,
        "reason": view.reason,
        "policy": view.policy,
        "coached": view.coached,
        "mine": view.operator == operator,
        "operator": view.operator,
        "n": view.number if view.operator == operator else 0,
        "tool": None if view.tool is None else _rounded(view.tool.position),
        "target": None if view.target is None else _rounded(view.target.position),
        "joints": list(view.joints),
        "position": _rounded(view.position),
        "phase": view.phase.value,
        "begins_in": round(view.begins_in_s, 1),
        "seconds": round(view.seconds, 1),
        "task": view.task,
        "subtasks": list(view.subtasks),
        "step": view.step,
        "succeeds": view.succeeds,
        "said": view.said,
        "committed": view.committed,
        "pending": view.pending,
        "minutes_left": round(view.minutes_left) if math.isfinite(view.minutes_left) else None,
    }


def write_picture(index: int, image: Image) -> bytes:
    """A picture as bytes: its index, at most 255, then a JPEG."""
    data = io.BytesIO()
    PillowImage.fromarray(image).save(data, "JPEG", quality=JPEG_QUALITY)
    return bytes([index]) + data.getvalue()


class EncodedPictures:
    """Pictures as bytes, for all pages. Each is encoded once."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Image, bytes]] = {}

    def of(self, index: int, image: Image) -> bytes:
        """`write_picture` of the newest picture with this index."""
        kept = self._kept.get(index)
        if kept is None or kept[0] is not image:
            kept = self._kept[index] = (image, write_picture(index, image))
        return kept[1]


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 5) for value in values]
