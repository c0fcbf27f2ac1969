"""What the model may write, and that guided decoding through the caches is the formula on whole sequences."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emu_robot.emu35.checkpoint import load_language_model
from emu_robot.emu35.config import DType, GenerationConfig, PlacementConfig
from emu_robot.emu35.generation import InterleavedGenerator
from emu_robot.emu35.prompts import image_ids, task_prompt, unconditional_prompt
from emu_robot.emu35.text import Emu3Text
from emu_robot.errors import InvalidValueError
from emu_robot.models.transformer import CausalTransformer

FLOAT32 = PlacementConfig(dtype=DType.float32, device="cpu")
GREEDY = {"text_temperature": 0.0, "image_temperature": 0.0, "size": (2, 3), "max_ids": 300}


@pytest.fixture
def model(checkpoint: Path, text: Emu3Text) -> CausalTransformer:
    """Random weights that like to begin images."""
    model = load_language_model(checkpoint, FLOAT32)
    model.lm_head.weight[text.ids.boi] *= 3
    return model


def answers(model: CausalTransformer, text: Emu3Text, **changes) -> list[str | np.ndarray]:
    generator = InterleavedGenerator(model, text, GenerationConfig(**{**GREEDY, **changes}))
    seen = [np.array([[1, 2, 3], [4, 5, 6]])]
    return list(generator.answer(task_prompt(text, "vla", "open", seen), unconditional_prompt(text, seen)))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_words_and_images_alternate_and_images_are_whole(model, text, guidance: float) -> None:
    parts = answers(model, text, guidance=guidance, text_temperature=1.0, image_temperature=1.0, max_images=3)
    images = [part for part in parts if isinstance(part, np.ndarray)]
    assert images
    for image in images:
        assert image.shape == (2, 3)
        assert image.min() >= 0 and image.max() < 16
    assert all("<|visual" not in part for part in parts if isinstance(part, str))


@torch.no_grad()
def test_guided_codes_are_those_of_the_formula(model, text, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_words(generator: InterleavedGenerator) -> tuple[list[int], int]:
        generator._append(text.ids.boi, image=True)
        return [], text.ids.boi

    monkeypatch.setattr(InterleavedGenerator, "_words", no_words)
    seen, ids = [np.array([[1, 2, 3], [4, 5, 6]])], text.ids
    asked, free = task_prompt(text, "vla", "open", seen), unconditional_prompt(text, seen)
    (image,) = answers(model, text, guidance=2.5, max_images=1)
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
    assert not [part for part in few.answer(prompt, prompt) if isinstance(part, np.ndarray)]


def test_a_size_that_is_none_is_said(model, text) -> None:
    model.lm_head.weight[text.ids.img] = 0
    for digit in "0123456789":
        model.lm_head.weight[text.encode(digit)[0]] = model.lm_head.weight[text.encode("*")[0]]
    with pytest.raises(InvalidValueError, match=r"for an image's size; give size=h,w to force one"):
        answers(model, text, size=None)


def test_vocabulary_larger_than_the_model_is_refused(model, text) -> None:
    model.config = replace(model.config, vocab_size=model.config.vocab_size - 1)
    with pytest.raises(InvalidValueError, match="the model knows"):
        InterleavedGenerator(model, text, GenerationConfig())
