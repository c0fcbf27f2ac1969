"""Every network in every precision on a GPU that computes no numbers, and on the meta device."""

from collections.abc import Iterator

import pytest
import torch
from fake_cuda import CUDA, default_dtype, fake_cuda

from emu_robot.models.action_head import ActionHead, HeadConfig
from emu_robot.models.attention import copies_dense
from emu_robot.models.kv_cache import KVCache
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig
from emu_robot.tokenizers.image import ImageTokenizer, ImageTokenizerConfig

MINI = TransformerConfig(vocab_size=600, num_hidden_layers=2)
OFFICIAL = TransformerConfig(
    vocab_size=282_926, hidden_size=5120, intermediate_size=25_600, num_hidden_layers=2, num_attention_heads=64,
    num_key_value_heads=8, head_dim=128, rope_theta=1e6, tie_word_embeddings=False, references=False,
    unrotated_groups=0,
)  # fmt: skip
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(params=["cuda", "meta"])
def device(request: pytest.FixtureRequest, dtype: torch.dtype) -> Iterator[torch.device]:
    """Where everything is then created, numbers as `dtype`."""
    if request.param == "cuda":
        with fake_cuda(dtype):
            yield CUDA
    else:
        with torch.device("meta"), default_dtype(dtype):
            yield torch.device("meta")


@torch.inference_mode()
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("config", [MINI, OFFICIAL], ids=["mini", "official"])
def test_every_pass_of_the_transformer_keeps_its_type(config: TransformerConfig, dtype: torch.dtype, device) -> None:
    model = CausalTransformer(config).eval()
    ids = torch.zeros(2, 700, dtype=torch.long)
    references = torch.zeros_like(ids) if config.references else None
    assert model(ids[:, :5]).dtype == dtype
    assert model.model(ids[:, :5], mask=copies_dense(ids[:, :5], ids[0, :5])).dtype == dtype
    cache = KVCache(config, 2, 3000, device, dtype)
    valid = torch.ones_like(ids, dtype=torch.bool)
    for block, padding in (
        (ids, None),
        (ids[:, :1], None),
        (ids[:, :9], valid[:, :9]),
        (ids, valid),
        (ids[:, :1], None),
    ):
        other = None if references is None else references[:, : block.shape[1]]
        hidden = model.model(block, references_BL=other, cache=cache, valid_BL=padding)
        assert (hidden.dtype, hidden.device) == (dtype, ids.device)
        logits = model.logits(hidden[:, -1], slice(10, 60), None if other is None else other[:, -1])
        assert logits.shape == (2, 50) and logits.dtype == dtype
    assert cache.capacity == 2048 and cache.keys[0].dtype == dtype


@torch.inference_mode()
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_action_head_samples(dtype: torch.dtype, device) -> None:
    config = HeadConfig()
    head = ActionHead(config).eval()
    views = [torch.zeros(2, 3, 128, 128) for _ in config.cameras]
    text = torch.zeros(2, config.text_length, dtype=torch.long)
    for goal in (None, views[0]):
        context = head.encode(views, torch.zeros(2, config.state_dim), text, goal)
        chunk = head.sample(context, torch.zeros(2, config.action_horizon, config.action_dim))
        assert chunk.shape == (2, config.action_horizon, config.action_dim) and chunk.device == views[0].device


@torch.inference_mode()
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_image_tokenizer_encodes_and_decodes(dtype: torch.dtype, device) -> None:
    tokenizer = ImageTokenizer(ImageTokenizerConfig()).eval()
    codes = tokenizer.encode(torch.zeros(1, 3, 128, 128))
    assert tokenizer.decode(codes).dtype == dtype
