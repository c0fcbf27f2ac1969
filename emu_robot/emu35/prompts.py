"""The official prompt of each task, with its images. Knows words and ids, not pixels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emu_robot.emu35.config import Task, known_task
from emu_robot.emu35.text import Emu3Text
from emu_robot.errors import InvalidValueError

type Grid = NDArray[np.integer]
"""(h, w) codes of an image."""

INTERLEAVED = " Please generate a response with interleaved text and images."
ANSWER = " ASSISTANT: <|extra_100|>"


def image_ids(text: Emu3Text, grid: Grid) -> list[int]:
    """boi, "h*w", img, rows of codes with eol between them, eoi. Raises `InvalidValueError` for a code out of range."""
    ids = text.ids
    if grid.ndim != 2 or grid.size == 0:
        raise InvalidValueError(f"an image's codes must be (h, w), got {grid.shape}")
    if grid.min() < 0 or grid.max() >= ids.n_codes:
        raise InvalidValueError(f"visual codes span {grid.min()}..{grid.max()}, must be in 0..{ids.n_codes - 1}")
    sequence = [ids.boi, *text.encode(f"{grid.shape[0]}*{grid.shape[1]}"), ids.img]
    for row, codes in enumerate(grid.tolist()):
        sequence += [ids.eol] if row else []
        sequence += [ids.first_code + code for code in codes]
    return [*sequence, ids.eoi]


def task_prompt(text: Emu3Text, task: str, question: str, images: Sequence[Grid] = ()) -> list[int]:
    """Ids before the answer. x2i shows the images before the question, all other tasks after it.

    Raises `UnknownNameError` for an unknown task.
    """
    extra = INTERLEAVED if known_task(task) is Task.howto else ""
    start = f"<|extra_203|>You are a helpful assistant for {task} task.{extra} USER: "
    if task == Task.x2i:
        return _prompt(text, start, images, question + ANSWER)
    return _prompt(text, start + question, images, ANSWER)


def answered_so_far(text: Emu3Text, steps: Sequence[tuple[str, Grid]]) -> list[int]:
    """Ids of the steps of an answer up to now: the words of each, and the image that was seen after it."""
    return [token for words, grid in steps for token in (*text.encode(words), *image_ids(text, grid))]


def unconditional_prompt(text: Emu3Text, images: Sequence[Grid] = ()) -> list[int]:
    """Ids of the images without the question, for classifier-free guidance."""
    return _prompt(text, "<|extra_203|>You are a helpful assistant. USER: ", images, ANSWER)


def _prompt(text: Emu3Text, before: str, images: Sequence[Grid], after: str) -> list[int]:
    """Ids of a prompt. Adjacent words are encoded together, as an id may span both."""
    if not images:
        return text.encode(before + after)
    ids = text.encode(before)
    for grid in images:
        ids += image_ids(text, grid)
    return ids + text.encode(after)
