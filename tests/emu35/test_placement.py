"""Large models on small devices: what goes where, that nothing changes by it, and what packing costs."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emu_robot.emu35.checkpoint import load_language_model
from emu_robot.emu35.config import DType, PlacementConfig, Quantize
from emu_robot.emu35.placement import Demand, DeviceMap, block_devices, connect, device_map
from emu_robot.errors import InvalidValueError, SystemSetupError
from emu_robot.models.kv_cache import KVCache
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig

ROOT = Path(__file__).parents[2]
FLOAT32 = PlacementConfig(dtype=DType.float32, device="cpu")


@pytest.fixture(scope="module")
def emu() -> CausalTransformer:
    """The official sizes (34.1 billion parameters), without memory."""
    with torch.device("meta"):
        return CausalTransformer(
            TransformerConfig(
                vocab_size=282_926, hidden_size=5120, intermediate_size=25_600, num_hidden_layers=64,
                num_attention_heads=64, num_key_value_heads=8, head_dim=128, rope_theta=1e6,
                tie_word_embeddings=False, references=False, unrotated_groups=0,
            )
        )  # fmt: skip


@pytest.mark.parametrize(
    ("memory", "quantize", "counts"),
    [
        ({"cuda:0": 79.0}, "none", {"cuda:0": 64}),
        ({"cuda:0": 47.0, "cuda:1": 47.0}, "none", {"cuda:0": 41, "cuda:1": 23}),
        ({"cuda:0": 23.0, "cpu": 100.0}, "none", {"cuda:0": 13, "offload": 51}),
        ({"cuda:0": 47.0}, "int8", {"cuda:0": 64}),
        ({"cpu": 100.0}, "none", {"cpu": 64}),
    ],
)
def test_the_official_model_fits_where_it_should(emu, memory: dict[str, float], quantize: str, counts) -> None:
    places = device_map(emu, PlacementConfig(memory=memory, quantize=Quantize(quantize)))
    assert places.main == next(iter(memory))
    assert {place: places.blocks.count(place) for place in places.blocks} == counts


def test_keys_and_values_are_counted_where_blocks_compute(emu) -> None:
    card = PlacementConfig(memory={"cuda:0": 79.0})
    assert set(device_map(emu, card, Demand(ids=16_384, rows=2)).blocks) == {"cuda:0"}
    with pytest.raises(SystemSetupError, match=r"16\.0 of them for keys and values of 32768 ids"):
        device_map(emu, card, Demand(ids=32_768, rows=2))
    two = PlacementConfig(memory={"cuda:0": 47.0, "cuda:1": 47.0})
    without, counted = (device_map(emu, two, demand).blocks.count("cuda:0") for demand in (None, Demand(ids=32_768)))
    assert counted < without
    offload = PlacementConfig(memory={"cuda:0": 23.0, "cpu": 100.0})
    short, long = (device_map(emu, offload, Demand(ids=ids)).blocks.count("offload") for ids in (1, 16_384))
    assert long > short  # keys and values of offloaded blocks are on the main device
    with pytest.raises(SystemSetupError):
        device_map(emu, card, Demand(beside=20 * 2**30))


def test_four_bits_fit_a_24_gib_card_with_less_in_reserve(emu) -> None:
    places = device_map(emu, PlacementConfig(memory={"cuda:0": 23.5}, quantize=Quantize.nf4, reserve=1.5))
    assert set(places.blocks) == {"cuda:0"}


def test_the_page_prints_the_table_of_the_command() -> None:
    printed = runpy.run_path(str(ROOT / "benchmarks/world_model_memory.py"))["rows"]()
    assert "\n".join(printed) + "\n" in (ROOT / "docs/world_model.md").read_text()


def test_too_little_memory_is_said_in_gib(emu) -> None:
    with pytest.raises(
        SystemSetupError, match=r"needs 63\.5 GiB, .* there are 23\.0 on cuda:0, 20\.0 on cpu; quantize"
    ):
        device_map(emu, PlacementConfig(memory={"cuda:0": 23.0, "cpu": 20.0}))
    with pytest.raises(SystemSetupError, match=r"device 'cuda:7' is not there; there are: cpu"):
        device_map(emu, PlacementConfig(device="cuda:7"))
    with pytest.raises(InvalidValueError, match="placement.reserve is -1.0, must be at least 0"):
        PlacementConfig(reserve=-1.0)


@torch.no_grad()
def logits(model: CausalTransformer, ids: torch.Tensor) -> torch.Tensor:
    """Through a cache, in two parts."""
    cache = KVCache(model.config, 1, ids.shape[1], dtype=model.lm_head.weight.dtype, layer_devices=block_devices(model))
    parts = [model.logits(model.model(part, cache=cache)) for part in ids.split(5, 1)]
    return torch.cat(parts, 1)


def test_offloaded_blocks_give_the_same_logits(checkpoint) -> None:
    ids = torch.randint(0, 200, (1, 9), generator=torch.Generator().manual_seed(0))
    plain = logits(load_language_model(checkpoint, FLOAT32), ids)
    model = load_language_model(checkpoint, FLOAT32)
    connect(model, DeviceMap(main="cpu", blocks=("cpu", "offload")))
    assert next(model.model.layers[1].parameters()).device.type == "meta"  # between passes, nothing is held
    torch.testing.assert_close(logits(model, ids), plain)


@pytest.mark.parametrize("dtype", list(DType))
@pytest.mark.parametrize(("quantize", "least"), [("int8", 0.99), ("nf4", 0.75)])
def test_packed_blocks_give_nearly_the_same_logits(checkpoint, quantize: str, least: float, dtype: DType) -> None:
    ids = torch.randint(0, 200, (1, 9), generator=torch.Generator().manual_seed(0))
    plain = load_language_model(checkpoint, FLOAT32)
    packed = load_language_model(checkpoint, replace(FLOAT32, quantize=Quantize(quantize), dtype=dtype))
    weight = packed.get_parameter("model.layers.0.mlp.up_proj.weight")
    assert weight.dtype in (torch.int8, torch.uint8)
    similar = torch.cosine_similarity(logits(plain, ids), logits(packed, ids).float(), dim=-1)
    assert similar.min() > least
