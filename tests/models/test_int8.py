"""int8: close to float32, in every part of the model, and only where a CPU does the work."""

import copy

import pytest
import torch

from emu_robot.models.fusion import join, trace
from emu_robot.models.int8 import supported, to_int8
from emu_robot.models.kv_cache import KVCache
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig

CODES = slice(40, 120)


@pytest.fixture(scope="module")
def models() -> tuple[CausalTransformer, CausalTransformer]:
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=120, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, unrotated_groups=1, initializer_range=0.1,
    )  # fmt: skip
    model = CausalTransformer(config).eval().requires_grad_(False)
    rounded = copy.deepcopy(model)
    to_int8(rounded, [CODES])
    return model, rounded


def test_states_and_logits_are_close_with_and_without_a_cache(
    models: tuple[CausalTransformer, CausalTransformer],
) -> None:
    ids = torch.randint(120, (2, 30), generator=torch.Generator().manual_seed(1))
    references = torch.randint(40, 120, (2, 30), generator=torch.Generator().manual_seed(2))
    found = []
    for model in models:
        cache = KVCache(model.config, 2, 30)
        model.model(ids[:, :20], references_BL=references[:, :20], cache=cache)
        hidden = model.model(ids[:, 20:], references_BL=references[:, 20:], cache=cache)
        found.append((hidden, model.logits(hidden, CODES, references[:, 20:]), model.logits(hidden, slice(0, 40))))
    for exact, rounded in zip(*found, strict=True):
        assert exact.shape == rounded.shape
        assert (exact - rounded).std() < 0.1 * exact.std()
        assert not torch.equal(exact, rounded)


def test_every_matrix_of_the_blocks_is_rounded(models: tuple[CausalTransformer, CausalTransformer]) -> None:
    exact, rounded = models
    left = [name for name, module in rounded.model.layers.named_modules() if isinstance(module, torch.nn.Linear)]
    assert not left and list(rounded.heads) == [(CODES.start, CODES.stop)]
    assert torch.equal(exact.lm_head.weight, rounded.lm_head.weight)


def test_supported_on_the_cpu_only() -> None:
    assert supported(torch.device("cpu"))
    assert not supported(torch.device("cuda"))


@torch.inference_mode()
def test_a_fused_model_is_the_model(models: tuple[CausalTransformer, CausalTransformer]) -> None:
    """Joined matrices and traced blocks in float32: equal states in blocks of any size, with padding and a mask."""
    exact = models[0]
    joined, fused = copy.deepcopy(exact), copy.deepcopy(exact)
    join(joined)
    join(fused)
    trace(fused)
    ids = torch.randint(120, (2, 30), generator=torch.Generator().manual_seed(1))
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[0, :3] = False
    found = []
    for model in (exact, joined, fused):
        cache = KVCache(model.config, 2, 60)
        states = [model.model(ids[:, :9], cache=cache, valid_BL=valid), model.model(ids[:, 9:10], cache=cache)]
        states.append(model.model(ids[:, 10:30], cache=cache))
        states.append(model.model(ids[:, :5], mask=torch.ones(1, 1, 5, 35, dtype=torch.bool), cache=cache))
        found.append(torch.cat(states, 1))
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], atol=1e-5, rtol=1e-5)
