"""Place the parts of a large model on devices, in the wanted number of bits. Uses accelerate and bitsandbytes.

The first device, the main one, holds embeddings, last norm and head, so that inputs and outputs are on one device. The
blocks fill the devices in order. Blocks that fit main memory only are brought to the main device one by one at every
pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from emu_robot.emu35.config import PlacementConfig, Quantize
from emu_robot.errors import SystemSetupError
from emu_robot.models.kv_cache import cache_bytes
from emu_robot.models.transformer import Block, CausalTransformer

GIB = 2**30


def torch_dtype(config: PlacementConfig) -> torch.dtype:
    """The type of computation."""
    return getattr(torch, config.dtype)


@dataclass(frozen=True, kw_only=True)
class DeviceMap:
    """Device of each part of a model."""

    main: str
    """Device of embeddings, last norm and head."""
    blocks: tuple[str, ...]
    """Device of each block; "offload": brought to main at every pass."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Memory that an answer needs beside the language model."""

    ids: int = 0
    """Ids of a sequence, whose keys and values are kept."""
    rows: int = 1
    """Sequences."""
    beside: int = 0
    """Bytes on the main device for other parts, such as the vision tokenizer."""


def device_map(model: CausalTransformer, config: PlacementConfig, demand: Demand | None = None) -> DeviceMap:
    """Fill the devices in order; `model` may be on the meta device. A block's keys and values share its device.

    Raises `SystemSetupError` with the GiB needed and present.
    """
    demand, free = demand or Demand(), config.memory or free_memory(config.device)
    names = [name for name in free if name != "cpu"] or ["cpu"]
    size, count = torch_dtype(config).itemsize, len(model.model.layers)
    weights = [packed_bytes(block, size, config.quantize) / GIB for block in model.model.layers]
    stored = demand.rows * cache_bytes(model.config, demand.ids, size) / GIB
    rest = size * sum(parameter.numel() for parameter in model.parameters()) / GIB
    rest -= size * sum(p.numel() for block in model.model.layers for p in block.parameters()) / GIB
    rest += demand.beside / GIB
    room = {name: free.get(name, 0.0) - config.reserve - (rest if name == names[0] else 0) for name in names}
    host = free.get("cpu", 0.0) if names != ["cpu"] and config.quantize is Quantize.none else 0.0
    for resident in range(count, -1, -1):
        away = weights[resident:]
        if sum(away) > host:
            break
        brought = len(away) * stored + max(away, default=0.0)
        blocks = _fill([one + stored for one in weights[:resident]], room | {names[0]: room[names[0]] - brought})
        if blocks is not None:
            return DeviceMap(main=names[0], blocks=(*blocks, *(["offload"] * len(away))))
    needed = rest + sum(weights) + count * stored
    raise SystemSetupError(
        f"the model needs {needed:.1f} GiB, {count * stored:.1f} of them for keys and values of {demand.ids} ids, and "
        f"{config.reserve:.1f} GiB on each device beside it; "
        f"there are {', '.join(f'{gib:.1f} on {name}' for name, gib in free.items())}"
        + ("" if config.quantize is Quantize.nf4 else "; quantize=nf4 needs about a third for the weights")
    )


def _fill(needed: Sequence[float], room: dict[str, float]) -> list[str] | None:
    """The device of each block, in order, or None where they do not fit."""
    places: list[str] = []
    devices = iter(room)
    if next(iter(room.values())) < 0:  # the main device does not hold the parts beside the blocks
        return None
    current, left = "", -1.0
    for gib in needed:
        while left < gib:
            current = next(devices, None)
            if current is None:
                return None
            left = room[current]
        left -= gib
        places.append(current)
    return places


def free_memory(device: str) -> dict[str, float]:
    """Free GiB of each device that `PlacementConfig.device` allows. Raises `SystemSetupError` for a missing device."""
    import psutil

    count = torch.cuda.device_count()
    host = {"cpu": psutil.virtual_memory().available / GIB}
    if device == "cpu" or (device == "auto" and not count):
        return host
    known = [f"cuda:{i}" for i in range(count)]
    names = known if device in ("auto", "cuda") else [device]
    if not names or set(names) - set(known):
        raise SystemSetupError(f"device {device!r} is not there; there are: {', '.join(['cpu', *known])}")
    return {name: torch.cuda.mem_get_info(name)[0] / GIB for name in names} | (host if device == "auto" else {})


def packed_bytes(block: nn.Module, size: int, quantize: Quantize) -> float:
    """Bytes of a block with `size` bytes per unpacked number; nf4 has a scale for every 64 numbers."""
    per_number = {Quantize.none: float(size), Quantize.int8: 1.0, Quantize.nf4: 0.5 + 4 / 64}[quantize]
    matrices = sum(module.weight.numel() for module in block.modules() if isinstance(module, nn.Linear))
    others = sum(parameter.numel() for parameter in block.parameters()) - matrices
    return matrices * per_number + others * size


def quantize_linears(block: nn.Module, quantize: Quantize, dtype: torch.dtype) -> None:
    """Replace the block's matrices by packed ones; they are packed when the block is moved to its device."""
    if quantize is Quantize.none:
        return
    import bitsandbytes as bnb

    nf4: Any = bnb.nn.Params4bit  # Any: their signatures are those of Tensor to a type checker
    int8: Any = bnb.nn.Int8Params
    for parent in list(block.modules()):
        for name, module in list(parent.named_children()):
            if not isinstance(module, nn.Linear):
                continue
            sizes, weight = (module.in_features, module.out_features), module.weight.data
            if quantize is Quantize.nf4:
                packed = bnb.nn.Linear4bit(*sizes, bias=False, compute_dtype=dtype, quant_type="nf4", device="meta")
                packed.weight = nf4(weight, requires_grad=False, quant_type="nf4", module=packed)
            else:
                packed = bnb.nn.Linear8bitLt(*sizes, bias=False, has_fp16_weights=False, device="meta")
                packed.weight = int8(weight, requires_grad=False, has_fp16_weights=False)
            setattr(parent, name, packed)


def connect(model: CausalTransformer, places: DeviceMap) -> None:
    """Let values follow the blocks from device to device, and offloaded blocks come to the main one."""
    if set(places.blocks) == {places.main}:
        return
    from accelerate import cpu_offload
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    for block, place in zip(model.model.layers, places.blocks, strict=True):
        if place == "offload":
            cpu_offload(block, torch.device(places.main), offload_buffers=True)
        else:
            add_hook_to_module(block, AlignDevicesHook(torch.device(place)))
    add_hook_to_module(model.model.norm, AlignDevicesHook(torch.device(places.main)))


def block_devices(model: CausalTransformer) -> list[torch.device]:
    """Device on which each block computes and keeps its keys and values."""
    main, devices = model.lm_head.weight.device, []
    for block in model.model.layers:
        assert isinstance(block, Block)
        hook = getattr(block, "_hf_hook", None)
        devices.append(torch.device(getattr(hook, "execution_device", None) or main))
    return devices
