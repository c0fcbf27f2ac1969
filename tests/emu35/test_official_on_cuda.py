"""The official model's answers in every precision on a GPU that computes no numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fake_cuda import CUDA, fake_cuda
from official_checkpoint import make_checkpoint

from emu_robot.emu35.answer import End, EndReason, Words
from emu_robot.emu35.checkpoint import load_language_model
from emu_robot.emu35.config import GenerationConfig
from emu_robot.emu35.generation import InterleavedGenerator
from emu_robot.emu35.prompts import task_prompt, unconditional_prompt
from emu_robot.emu35.text import Emu3Text
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig

SEEN = [np.array([[1, 2, 3], [4, 5, 6]])]
OFFICIAL = {
    "hidden_size": 5120, "intermediate_size": 25_600, "num_hidden_layers": 2, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 128, "rope_theta": 1e6, "tie_word_embeddings": False, "references": False,
    "unrotated_groups": 0,
}  # fmt: skip


def parts(model: CausalTransformer, text: Emu3Text, guidance: float) -> list:
    config = GenerationConfig(guidance=guidance, size=(2, 3), max_ids=500)
    asked, free = task_prompt(text, "vla", "open", SEEN), unconditional_prompt(text, SEEN)
    return list(InterleavedGenerator(model, text, config).answer(asked, free))


def chosen(text: Emu3Text) -> list[int]:
    """A word, a picture of codes 0, the end."""
    return [7, text.ids.boi, *[0] * 6, text.ids.eos]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_words_and_a_picture(text: Emu3Text, dtype: torch.dtype, guidance: float) -> None:
    with fake_cuda(dtype, chosen=chosen(text)):
        model = CausalTransformer(TransformerConfig(vocab_size=text.size, **OFFICIAL)).eval()
        words, picture, end = parts(model, text, guidance)
    assert words == Words(text="\x07") and picture.shape == (2, 3)
    assert end == End(reason=EndReason.COMPLETE)


def test_a_checkpoint_moved_to_the_gpu(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "emu")
    text, model = Emu3Text.load(folder), load_language_model(folder)
    with fake_cuda(chosen=chosen(text)):
        assert parts(model.to(CUDA), text, 3.0)[1].shape == (2, 3)
