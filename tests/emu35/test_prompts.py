"""The official prompts, spelled out."""

import numpy as np
import pytest

from emu_robot.emu35.prompts import image_ids, task_prompt, unconditional_prompt
from emu_robot.emu35.text import Emu3Text
from emu_robot.errors import InvalidValueError, UnknownNameError

GRID = np.array([[1, 2, 3], [4, 5, 6]])
IMAGE = (
    "<|image start|>2*3<|image token|><|visual token 000001|><|visual token 000002|><|visual token 000003|>"
    "<|extra_200|><|visual token 000004|><|visual token 000005|><|visual token 000006|><|image end|>"
)


def test_prompts_are_the_official_ones(text: Emu3Text) -> None:
    assert text.decode(image_ids(text, GRID)) == IMAGE
    start = "<|extra_203|>You are a helpful assistant"
    end = " ASSISTANT: <|extra_100|>"
    assert (
        text.decode(task_prompt(text, "vla", "open it", [GRID])) == f"{start} for vla task. USER: open it{IMAGE}{end}"
    )
    assert (
        text.decode(task_prompt(text, "x2i", "open it", [GRID])) == f"{start} for x2i task. USER: {IMAGE}open it{end}"
    )
    t2i = task_prompt(text, "t2i", "a cup ")
    assert t2i == text.encode(f"{start} for t2i task. USER: a cup {end}")
    howto = text.decode(task_prompt(text, "howto", "tidy", [GRID, GRID]))
    sentence = "Please generate a response with interleaved text and images."
    assert howto == f"{start} for howto task. {sentence} USER: tidy{IMAGE}{IMAGE}{end}"
    assert text.decode(unconditional_prompt(text, [GRID])) == f"{start}. USER: {IMAGE}{end}"


def test_wrong_input_is_named(text: Emu3Text) -> None:
    with pytest.raises(UnknownNameError, match="task 'vqa'; known: t2i, x2i, howto, story, explore, vla"):
        task_prompt(text, "vqa", "what")
    with pytest.raises(InvalidValueError, match=r"span 1\.\.16, must be in 0\.\.15"):
        image_ids(text, np.array([[1, 16]]))
    with pytest.raises(InvalidValueError, match=r"must be \(h, w\), got \(3,\)"):
        image_ids(text, np.array([1, 2, 3]))
