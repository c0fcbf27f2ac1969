"""Training checkpoints: written atomically, read without execution of code in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from emu_robot.errors import WeightsError
from emu_robot.shared.files import replacing


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, dicts, lists) so that a kill leaves the old file or the new one."""
    with replacing(path) as partial:
        torch.save(dict(content), partial)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a file of `save_checkpoint` onto the CPU. Raises `WeightsError` if it is missing or damaged."""
    if not path.is_file():
        raise WeightsError(f"no checkpoint at {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"checkpoint {path} is corrupted: {str(error).splitlines()[0]}") from error


def load_initial_state(path: Path) -> dict[str, Tensor]:
    """Weights to start a new run from: a `checkpoint.pt` (its EMA weights) or a `.safetensors` file."""
    if path.suffix != ".safetensors":
        return load_checkpoint(path)["ema"]
    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except Exception as error:
        raise WeightsError(f"cannot read {path}: {error}") from error
