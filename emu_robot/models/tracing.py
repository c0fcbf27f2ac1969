"""Modules as traced code: the same operations on the same weights without the calls of Python between them.

On a CPU these calls cost a pass over small tensors more than its numbers do. Traced code computes without gradient and
stays on the device on which it was traced.
"""

import torch
from torch import Tensor, nn


@torch.no_grad()
def traced(module: nn.Module, **methods: tuple[Tensor, ...]) -> torch.jit.ScriptModule:
    """A module with these methods alone, each recorded on an example of its input; sizes of the input may differ."""
    return torch.jit.trace_module(module, dict(methods), check_trace=False)  # pyright: ignore[reportReturnType]


@torch.no_grad()
def frozen(module: nn.Module, *example: Tensor) -> torch.jit.ScriptModule:
    """`forward` alone, with the weights of its convolutions in the order in which the CPU reads them."""
    return torch.jit.optimize_for_inference(traced(module, forward=example))
