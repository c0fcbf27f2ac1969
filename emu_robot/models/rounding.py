"""Weights in 8 bits, for storage: a matrix or kernel as int8 and one scale for each of its outputs.

It takes half of the space of float16. Other tensors, such as norms and biases, stay as they are.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from emu_robot.errors import WeightsError

SCALE = ".int8_scale"
"""Ending of the name of a rounded tensor's scales."""
SMALLEST = 4096
"""Elements from which on a tensor is rounded."""
LIMIT = 127


def round_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with matrices and kernels (O, ...) as int8, and scales (O,) float32 beside them."""
    rounded: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point() or tensor.ndim < 2 or tensor.numel() < SMALLEST:
            rounded[name] = tensor
            continue
        values = tensor.detach().float()
        scale = values.abs().amax(tuple(range(1, values.ndim))).clamp(min=torch.finfo(torch.float32).tiny) / LIMIT
        rounded[name] = (values / _along(scale, values)).round().clamp(-LIMIT, LIMIT).to(torch.int8)
        rounded[name + SCALE] = scale
    return rounded


def restore_tensors(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The inverse of `round_tensors`, in float32. Raises `WeightsError` naming a scale that does not fit."""
    restored = {name: tensor for name, tensor in state.items() if not name.endswith(SCALE)}
    for name, scale in state.items():
        if not name.endswith(SCALE):
            continue
        of = name.removesuffix(SCALE)
        values = restored.get(of)
        if values is None or values.dtype != torch.int8 or scale.shape != values.shape[:1]:
            raise WeightsError(f"{source}: {name} has no int8 tensor {of} with as many outputs")
        restored[of] = values.float() * _along(scale, values)
    return restored


def _along(scale_O: Tensor, values: Tensor) -> Tensor:
    """The scales, shaped to multiply a tensor (O, ...)."""
    return scale_O.view(-1, *[1] * (values.ndim - 1))
