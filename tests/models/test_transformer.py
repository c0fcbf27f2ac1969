"""The transformer is Qwen3's, and decoding through the cache is the full forward pass."""

import json
import random
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from emu_robot.errors import InvalidValueError
from emu_robot.models.kv_cache import KVCache
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig

GOLDEN = Path(__file__).parents[1] / "golden/tiny_lm"


def tiny_model(**changes) -> CausalTransformer:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    layout = {**sizes, "vocab_size": 50, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.2}
    return CausalTransformer(TransformerConfig(**{**layout, **changes})).eval()


def test_official_checkpoint_gives_official_logits() -> None:
    official = json.loads((GOLDEN / "config.json").read_text())
    model = CausalTransformer(
        TransformerConfig(
            **{f.name: official[f.name] for f in fields(TransformerConfig) if f.name in official},
            unrotated_groups=0,
            references=False,
        )
    )
    model.load_state_dict(load_file(GOLDEN / "model.safetensors"))
    golden = load_file(GOLDEN / "golden.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(model(golden["input_ids"]), golden["logits"], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("seed", range(8))
def test_any_layout_is_that_of_transformers_qwen3(seed: int) -> None:
    """The full pass, and the cached pass in random blocks."""
    import transformers

    rng = random.Random(seed)
    groups = rng.choice([1, 2, 3])
    model = tiny_model(
        hidden_size=rng.choice([24, 32, 40]),
        intermediate_size=rng.randint(20, 60),
        num_hidden_layers=rng.randint(1, 3),
        num_attention_heads=groups * rng.choice([1, 2, 4]),
        num_key_value_heads=groups,
        head_dim=rng.choice([4, 8, 16]),
        rope_theta=rng.choice([10.0, 1e4, 1e6]),
        rms_norm_eps=rng.choice([1e-6, 1e-5]),
        tie_word_embeddings=rng.random() < 0.5,
        references=False,
        unrotated_groups=0,
    )
    settings = {
        key: value for key, value in vars(model.config).items() if key not in ("references", "unrotated_groups")
    }
    official = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**settings)).eval()
    official.load_state_dict(model.state_dict())
    ids = torch.randint(50, (2, 20))
    expected = official(ids).logits
    torch.testing.assert_close(model(ids), expected, atol=1e-5, rtol=1e-4)
    cache = KVCache(model.config, 2, 20)
    ends = [0, *sorted(rng.sample(range(1, 20), 4)), 20]
    parts = [model.lm_head(model.model(ids[:, begin:end], cache=cache)) for begin, end in pairwise(ends)]
    torch.testing.assert_close(torch.cat(parts, 1), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_unrotated_heads_do_not_ask_how_far() -> None:
    ids, near = torch.randint(50, (2, 12)), torch.arange(12).expand(2, 12)
    far = near + 5 * (near > 6)
    for groups, equal in ((2, True), (1, False), (0, False)):
        model = tiny_model(unrotated_groups=groups)
        assert torch.allclose(model(ids, near), model(ids, far), atol=1e-5) == equal


@torch.no_grad()
def test_cached_blocks_equal_the_full_pass() -> None:
    model, ids = tiny_model(), torch.randint(50, (2, 12))
    positions = torch.arange(12).expand(2, 12).clone()
    positions[:, 5:] += 7
    full = model(ids, positions)
    cache = KVCache(model.config, 2, 12)
    blocks = [slice(0, 5), slice(5, 6), slice(6, 7), slice(7, 12)]
    parts = [model.lm_head(model.model(ids[:, b], positions[:, b], cache=cache)) for b in blocks]
    torch.testing.assert_close(torch.cat(parts, 1), full, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_padding_in_the_cache_changes_nothing() -> None:
    model, ids = tiny_model(), torch.randint(50, (1, 6))
    full = model(ids)[:, -1]
    cache = KVCache(model.config, 2, 9)
    padded = torch.full((2, 8), 3)
    padded[0, 3:] = ids[0, :5]
    positions = torch.zeros(2, 8, dtype=torch.long)
    positions[0, 3:] = torch.arange(5)
    valid = torch.ones(2, 8, dtype=torch.bool)
    valid[0, :3] = False
    model.model(padded, positions, cache=cache, valid_BL=valid)
    last = model.model(ids[:, 5:].expand(2, 1), torch.tensor([[5], [8]]), cache=cache)
    torch.testing.assert_close(model.lm_head(last)[:1, 0], full, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_cache_can_be_set_back_and_does_not_overflow() -> None:
    model, ids = tiny_model(), torch.randint(50, (1, 8))
    cache = KVCache(model.config, 1, 8)
    model.model(ids[:, :4], cache=cache)
    first = model.model(ids[:, 4:], cache=cache)
    cache.length = 4
    model.model(torch.randint(50, (1, 3)), cache=cache)
    cache.length = 4
    torch.testing.assert_close(model.model(ids[:, 4:], cache=cache), first)
    with pytest.raises(InvalidValueError, match="9 cache slots, there are 8"):
        model.model(ids[:, :1], cache=cache)


def test_logits_of_a_range() -> None:
    model, hidden = tiny_model(), torch.randn(3, 32)
    torch.testing.assert_close(model.logits(hidden, slice(10, 20)), model.lm_head(hidden)[:, 10:20])


def test_heads_must_divide() -> None:
    with pytest.raises(InvalidValueError, match="4 heads must be a multiple of 3"):
        TransformerConfig(num_attention_heads=4, num_key_value_heads=3)


@torch.no_grad()
def test_references_are_read_and_can_be_copied() -> None:
    model, ids = tiny_model(), torch.randint(50, (1, 4))
    none = torch.full((1, 4), -1)
    assert torch.equal(model(ids, references_BL=none), model(ids))
    references = torch.tensor([[-1, -1, 7, -1]])
    changed = (model(ids, references_BL=references) - model(ids)).abs().sum(-1)[0] > 0
    assert changed.tolist() == [False, False, True, True]
    without_gate = model(ids, references_BL=references)
    model.copy_gate.weight[:] = 0.1
    gate = model.copy_gate(model.model(ids, references_BL=references))[0, 2, 0]
    difference = model(ids, references_BL=references) - without_gate
    assert difference[0, 2, 7] == pytest.approx(float(gate), rel=1e-4)
    assert difference.abs().sum() == pytest.approx(abs(float(gate)), rel=1e-4)
    hidden = model.model(ids, references_BL=references)
    part = model.logits(hidden, slice(5, 12), references)
    torch.testing.assert_close(part, model.logits(hidden, references=references)[..., 5:12])


@torch.no_grad()
def test_the_cache_grows_with_what_it_holds_and_pieces_change_nothing() -> None:
    model = tiny_model()
    ids = torch.randint(50, (2, 1500))
    references = torch.where(torch.rand(2, 1500) < 0.2, ids.roll(3, 1), -1)
    full = model.model(ids, references_BL=references)
    cache, capacities = KVCache(model.config, 2, 2600), []
    valid = torch.ones(2, 1100, dtype=torch.bool)
    parts = []
    for begin, end in ((0, 100), (100, 1200), (1200, 1201), (1201, 1500)):
        block, other = ids[:, begin:end], references[:, begin:end]
        padding = valid if end == 1200 else None
        parts.append(model.model(block, references_BL=other, cache=cache, valid_BL=padding))
        capacities.append(cache.capacity)
    torch.testing.assert_close(torch.cat(parts, 1), full, atol=1e-4, rtol=1e-4)
    assert capacities == [1024, 2048, 2048, 2048]
    model.model(ids[:, :1000], cache=cache)
    assert cache.capacity == cache.keys[0].shape[2] == 2600


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_near_float32(dtype: torch.dtype) -> None:
    model, ids = tiny_model(), torch.randint(50, (2, 30))
    full = model(ids)
    low = tiny_model().to(dtype)
    cache = KVCache(low.config, 2, 30, dtype=dtype)
    cached = torch.cat([low.logits(low.model(part, cache=cache)) for part in ids.split(11, 1)], 1)
    assert cached.dtype == dtype
    assert torch.cosine_similarity(cached.float(), full, dim=-1).min() > 0.99
