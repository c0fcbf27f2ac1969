"""What the official Emu3.5 needs on some machines: the table of docs/world_model.md.

`python benchmarks/world_model_memory.py` prints it. Weights, keys and values, and the vision tokenizer are counted as
when a checkpoint is loaded; nothing is loaded.
"""

import torch

from emu_robot.emu35.config import PlacementConfig, Quantize
from emu_robot.emu35.placement import GIB, Demand, device_map, packed_bytes
from emu_robot.errors import SystemSetupError
from emu_robot.models.kv_cache import cache_bytes
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig

EMU35 = TransformerConfig(
    vocab_size=282_926, hidden_size=5120, intermediate_size=25_600, num_hidden_layers=64, num_attention_heads=64,
    num_key_value_heads=8, head_dim=128, rope_theta=1e6, tie_word_embeddings=False, references=False,
    unrotated_groups=0,
)  # fmt: skip
VISION = 455_000_000 * 4
"""Bytes of the vision tokenizer, which computes in float32."""
MACHINES = (
    ("one 80 GB card", {"cuda:0": 79.0}, Quantize.none, 16_384),
    ("one 80 GB card", {"cuda:0": 79.0}, Quantize.none, 32_768),
    ("two 48 GB cards", {"cuda:0": 47.0, "cuda:1": 47.0}, Quantize.none, 16_384),
    ("one 48 GB card", {"cuda:0": 47.0}, Quantize.int8, 8192),
    ("one 48 GB card", {"cuda:0": 47.0}, Quantize.nf4, 32_768),
    ("one 32 GB card", {"cuda:0": 31.5}, Quantize.nf4, 4096),
    ("one 24 GB card", {"cuda:0": 23.5}, Quantize.nf4, 4096),
    ("one 24 GB card, 96 GB of main memory", {"cuda:0": 23.5, "cpu": 90.0}, Quantize.none, 4096),
)
"""Name, GiB free of each device, packing, max_ids."""
HEAD: tuple[str, ...] = (
    "| 34B on | quantize | max_ids | weights | keys and values | fits |",
    "|---|---|---|---|---|---|",
)


def rows() -> list[str]:
    """The lines of the table, those of its head first."""
    with torch.device("meta"):
        model = CausalTransformer(EMU35)
    total = 2 * sum(parameter.numel() for parameter in model.parameters())
    blocks = [(packed_bytes(one, 2, Quantize.none), one) for one in model.model.layers]
    lines = list(HEAD)
    for name, memory, quantize, ids in MACHINES:
        demand = Demand(ids=ids, rows=2, beside=VISION)
        weights = total - sum(size for size, _ in blocks) + sum(packed_bytes(one, 2, quantize) for _, one in blocks)
        stored = len(blocks) * 2 * cache_bytes(EMU35, ids, 2)
        try:
            places = device_map(model, PlacementConfig(memory=memory, quantize=quantize), demand).blocks
            away = places.count("offload")
            fits = f"{away} of {len(places)} blocks come over at every pass: slow" if away else "yes"
        except SystemSetupError:
            fits = "no"
        sizes = f"{weights / GIB:.1f} GiB | {stored / GIB:.1f} GiB"
        lines.append(f"| {name} | {quantize.value} | {ids} | {sizes} | {fits} |")
    return lines


if __name__ == "__main__":
    print("\n".join(rows()))
