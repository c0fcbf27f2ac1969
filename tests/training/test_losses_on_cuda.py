"""The forward pass and loss of every training stage on a GPU without numbers, plain and under autocast."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from fake_cuda import fake_cuda
from torch import Tensor

from emu_robot.models.action_head import ActionHead, HeadConfig
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig
from emu_robot.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from emu_robot.training.dida import dida_loss
from emu_robot.training.dida_layout import visibility
from emu_robot.training.head import HeadTrainConfig, head_loss
from emu_robot.training.losses import near_digits
from emu_robot.training.planner import planner_loss
from emu_robot.training.tokenizer import TokenizerTrainConfig, tokenizer_loss
from emu_robot.training.world_model import world_model_loss

SMALL = TransformerConfig(vocab_size=60, num_hidden_layers=1)
DIGITS = replace(SMALL, code_books=2, book_size=15)
PLAIN = TransformerConfig(vocab_size=60, num_hidden_layers=1, references=False, unrotated_groups=0, rope_theta=1e6)
FIRST_CODE = 30


@pytest.fixture(params=["float32", "bfloat16"])
def gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    with fake_cuda():
        autocast = torch.autocast("cuda", torch.bfloat16) if request.param == "bfloat16" else nullcontext()
        with autocast:
            yield


def ids(length: int) -> Tensor:
    return torch.zeros(2, length, dtype=torch.long)


def is_loss(answer: tuple[Tensor, dict]) -> bool:
    loss, _metrics = answer
    return loss.shape == () and loss.dtype == torch.float32 and loss.device.type == "cuda" and loss.requires_grad


@pytest.mark.parametrize("sizes", [SMALL, DIGITS])
def test_planner(gpu: None, sizes: TransformerConfig) -> None:
    near = near_digits(torch.randn(sizes.code_books, 30 // sizes.code_books, 4), 0.1, FIRST_CODE)
    batch = {
        "ids": ids(20),
        "positions": ids(20),
        "references": ids(20),
        "targets": ids(20),
        "weights": ids(20).float(),
    }
    assert is_loss(planner_loss(near)(CausalTransformer(sizes), batch))


@pytest.mark.parametrize("sizes", [SMALL, DIGITS])
def test_dida(gpu: None, sizes: TransformerConfig) -> None:
    near = near_digits(torch.randn(sizes.code_books, 30 // sizes.code_books, 4), 0.1, FIRST_CODE)
    last, copy = visibility(20, np.array([[8], [8]]), 6)
    batch = {
        "ids": ids(26),
        "positions": ids(26),
        "references": ids(26),
        "targets": ids(20),
        "weights": ids(20).float(),
    }
    batch |= {"last": torch.from_numpy(last).cuda(), "copy": torch.from_numpy(copy).cuda()}
    batch |= {"places": torch.arange(20, 25), "codes": ids(5), "code_weights": ids(5).float()}
    assert is_loss(dida_loss(near, 0.5)(CausalTransformer(sizes), batch))


def test_world_model(gpu: None) -> None:
    batch = {"ids": ids(20), "positions": ids(20), "targets": ids(20), "weights": ids(20).float()}
    batch["mask"] = torch.ones(2, 1, 20, 20, dtype=torch.bool).tril()
    assert is_loss(world_model_loss(CausalTransformer(PLAIN), batch))


def test_tokenizer(gpu: None) -> None:
    config = TokenizerTrainConfig()
    pictures = torch.zeros(2, 128, 128, 3, dtype=torch.uint8)
    batch = {"images": pictures}
    assert is_loss(tokenizer_loss(torch.zeros(3, 128, 128), config)(ImageTokenizer(ImageTokenizerConfig()), batch))


def test_head(gpu: None) -> None:
    config = HeadConfig()
    shape = (2, config.keyposes)
    batch: dict[str, Tensor] = {f"view.{camera}": torch.zeros(2, 3, 128, 128) for camera in config.cameras}
    batch |= {"state": torch.zeros(2, config.state_dim), "text": ids(config.text_length)}
    batch |= {"goal": torch.zeros(2, 3, 128, 128), "has_goal": torch.ones(2, dtype=torch.bool)}
    batch |= {"actions": torch.zeros(2, config.action_horizon, config.action_dim), "time": torch.zeros(2, 4)}
    batch |= {"noise": torch.zeros(2, 4, config.action_horizon * config.action_dim), "remaining": torch.zeros(shape)}
    batch |= {
        "keyposes": torch.zeros(*shape, config.state_dim),
        "progress": torch.zeros(2),
        "has_progress": torch.ones(2),
    }
    assert is_loss(partial(head_loss, config=HeadTrainConfig())(ActionHead(config), batch))
