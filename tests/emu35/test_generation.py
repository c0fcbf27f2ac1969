"""What the model may write, and that guided decoding through the caches is the formula on whole sequences."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emu_robot.emu35.answer import End, EndReason, Role, Words
from emu_robot.emu35.checkpoint import load_language_model
from emu_robot.emu35.config import DType, GenerationConfig, PlacementConfig, Task, WorldModelConfig
from emu_robot.emu35.generation import InterleavedGenerator
from emu_robot.emu35.prompts import image_ids, task_prompt, unconditional_prompt
from emu_robot.emu35.text import Emu3Text
from emu_robot.errors import InvalidValueError
from emu_robot.models.transformer import CausalTransformer

FLOAT32 = PlacementConfig(dtype=DType.float32, device="cpu")
SEEN = (3, 2)
GREEDY = {"text_temperature": 0.0, "image_temperature": 0.0, "size": (2, 3), "max_ids": 300}


@pytest.fixture
def model(checkpoint: Path, text: Emu3Text) -> CausalTransformer:
    """Random weights that like to begin images."""
    model = load_language_model(checkpoint, FLOAT32)
    model.lm_head.weight[text.ids.boi] *= 3
    return model


def answers(model: CausalTransformer, text: Emu3Text, **changes) -> list[Words | np.ndarray | End]:
    generator = InterleavedGenerator(model, text, GenerationConfig(**{**GREEDY, **changes}))
    grids = [np.array([[1, 2, 3], [4, 5, 6]])]
    return list(generator.answer(task_prompt(text, "vla", "open", grids), unconditional_prompt(text, grids), SEEN))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_words_and_images_alternate_and_images_are_whole(model, text, guidance: float) -> None:
    parts = answers(model, text, guidance=guidance, text_temperature=1.0, image_temperature=1.0, max_images=3)
    images = [part for part in parts if isinstance(part, np.ndarray)]
    assert images
    for image in images:
        assert image.shape == (2, 3)
        assert image.min() >= 0 and image.max() < 16
    assert all("<|visual" not in part.text for part in parts if isinstance(part, Words))
    assert isinstance(parts[-1], End) and sum(isinstance(part, End) for part in parts) == 1


@torch.no_grad()
def test_guided_codes_are_those_of_the_formula(model, text, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_words(generator: InterleavedGenerator) -> tuple[list[int], int]:
        generator._append(text.ids.boi, image=True)
        return [], text.ids.boi

    monkeypatch.setattr(InterleavedGenerator, "_words", no_words)
    seen, ids = [np.array([[1, 2, 3], [4, 5, 6]])], text.ids
    asked, free = task_prompt(text, "vla", "open", seen), unconditional_prompt(text, seen)
    image, end = answers(model, text, guidance=2.5, max_images=1)
    assert end == End(reason=EndReason.MAX_IMAGES, detail="max_images=1 pictures are drawn")
    assert isinstance(image, np.ndarray)
    inside = image_ids(text, image)
    codes = slice(ids.first_code, text.size)
    for i, token in enumerate(inside):
        if token < ids.first_code:
            continue
        scores = [
            model(torch.tensor([[*before, *inside[:i]]]))[0, -1, codes].log_softmax(-1) for before in (asked, free)
        ]
        assert int((scores[1] + 2.5 * (scores[0] - scores[1])).argmax()) + ids.first_code == token


def test_same_seed_same_answer_and_budget_is_kept(model, text) -> None:
    sampled = {"text_temperature": 1.0, "image_temperature": 1.0, "max_images": 2}
    first, again, other = (answers(model, text, **sampled, seed=seed) for seed in (1, 1, 2))
    assert str(first) == str(again) != str(other)
    prompt = task_prompt(text, "vla", "open")
    with pytest.raises(InvalidValueError, match=f"the prompt has {len(prompt)} ids; max_ids is 10"):
        list(InterleavedGenerator(model, text, GenerationConfig(max_ids=10)).answer(prompt, prompt))
    few = InterleavedGenerator(model, text, GenerationConfig(**{**GREEDY, "max_ids": len(prompt) + 5, "guidance": 1}))
    *words, end = few.answer(prompt, prompt)
    assert all(isinstance(part, Words) for part in words)
    assert isinstance(end, End) and end.reason in (EndReason.MAX_IDS, EndReason.PICTURE_TOO_LARGE)


def says(text: Emu3Text, *tokens: int | str) -> list[int]:
    """Ids of words and ids mixed."""
    return [one for token in tokens for one in (text.encode(token) if isinstance(token, str) else [token])]


@pytest.fixture
def scripted(model: CausalTransformer, text: Emu3Text, monkeypatch: pytest.MonkeyPatch):
    """The model's words are given; pictures and the sizes that it chooses come from its weights."""

    def script(*tokens: int | str, task: str = "vla", seen: tuple[int, int] | None = None, **settings) -> list:
        ids = iter(says(text, *tokens))

        def words(generator: InterleavedGenerator) -> tuple[list[int], int | None]:
            said: list[int] = []
            for token in ids:
                generator._append(token, image=token == text.ids.boi)
                if token in (text.ids.boi, text.ids.eos):
                    return said, token
                said.append(token)
            return said, None

        monkeypatch.setattr(InterleavedGenerator, "_words", words)
        config = GenerationConfig(**{"image_temperature": 0.0, "max_ids": 3000, **settings})
        prompt = task_prompt(text, task, "open")
        return list(InterleavedGenerator(model, text, config, task).answer(prompt, prompt, seen))

    return script


def test_a_picture_has_the_size_of_the_last_input_picture_or_two_digits_a_side(scripted, text: Emu3Text) -> None:
    boi, eos = text.ids.boi, text.ids.eos
    assert [part.shape for part in scripted(boi, boi, eos, seen=(3, 2))[:2]] == [(3, 2), (3, 2)]
    assert scripted(boi, eos, seen=(3, 2), size=(4, 5))[0].shape == (4, 5)
    room = {"max_ids": len(task_prompt(text, "vla", "open")) + 120}
    for settings in ({}, {"seen": (3, 2), "size": (0, 0)}):
        (end,) = scripted(boi, eos, **settings, **room, image_temperature=9.0)
        assert re.search(r"a picture of [1-9]\d\*[1-9]\d codes takes \d+ ids", end.detail)


def test_reasoning_is_kept_apart_and_words_after_the_last_picture_are_kept(scripted, text: Emu3Text) -> None:
    words = scripted(
        "<|extra_60|>three steps<|extra_61|>take it<|extra_50|>a cup in the", text.ids.boi,
        " gripper<|extra_51|>and put it down<|extra_101|>", text.ids.eos, size=(1, 2),
    )  # fmt: skip
    assert [one for one in words if not isinstance(one, np.ndarray)] == [
        Words(text="three steps", role=Role.GLOBAL_REASONING),
        Words(text="take it"),
        Words(text="a cup in the", role=Role.PICTURE_REASONING),
        Words(text=" gripper", role=Role.PICTURE_REASONING),
        Words(text="and put it down"),
        End(reason=EndReason.COMPLETE),
    ]


def test_why_an_answer_stops_is_said(scripted, text: Emu3Text) -> None:
    boi = text.ids.boi
    (end,) = scripted(boi, size=(200, 200), max_ids=400)
    assert end.reason is EndReason.PICTURE_TOO_LARGE
    assert "a picture of 200*200 codes takes 40208 ids, " in end.detail and "max_ids=400 are left" in end.detail
    assert scripted(boi, max_ids=150)[-1].reason is EndReason.PICTURE_TOO_LARGE
    assert scripted(boi, "the next", boi, size=(1, 2), max_images=1)[1:] == [
        Words(text="the next"),
        End(reason=EndReason.MAX_IMAGES, detail="max_images=1 pictures are drawn"),
    ]
    assert scripted("and", size=(1, 2))[-1].reason is EndReason.MAX_IDS


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("t2i", (5.0, 1.0, 1024, 0.9, 5120, (55, 73))),
        ("x2i", (3.0, 1.0, 1024, 0.9, 5120, None)),
        ("howto", (3.0, 0.7, 200, 0.8, 10_240, None)),
        ("story", (3.0, 1.0, 1024, 0.9, 10_240, None)),
    ],
)
def test_tasks_preset_what_is_left_open(task: str, expected: tuple) -> None:
    names = ("guidance", "text_temperature", "text_top_k", "text_top_p", "image_top_k", "size")
    preset = GenerationConfig().for_task(task)
    assert tuple(getattr(preset, name) for name in names) == expected
    assert GenerationConfig(guidance=1.5, size=(2, 3)).for_task(task).guidance == 1.5
    assert WorldModelConfig(task=Task(task)).area == (1024**2 if task in ("t2i", "x2i") else 720**2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"text_top_p": 0.0}, {"text_top_p": 1.5}, {"text_temperature": -1.0}, {"text_top_k": -3}, {"image_top_k": -3},
        {"guidance": float("inf")}, {"guidance": float("nan")}, {"guidance": 0.5}, {"seed": -1}, {"seed": 2**70},
        {"size": (0, 3)}, {"size": (5000, 1)}, {"max_ids": 0},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(InvalidValueError, match=f"generation.{next(iter(wrong))} is"):
        GenerationConfig(**wrong)


def test_vocabulary_larger_than_the_model_is_refused(model, text) -> None:
    model.config = replace(model.config, vocab_size=model.config.vocab_size - 1)
    with pytest.raises(InvalidValueError, match="the model knows"):
        InterleavedGenerator(model, text, GenerationConfig())
