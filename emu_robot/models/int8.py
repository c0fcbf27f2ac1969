"""int8 on the CPU: weights rounded per output channel, activations per pass, sums in int32.

On one core a pass of one token takes half the time of float32, one of 65 tokens a quarter; the weights a fourth of the
memory. Words stay the same, 5 % of the image codes become neighbours in the codebook (docs/RESULTS.md).
"""

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from emu_robot.models.transformer import CausalTransformer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its successor, torchao, has no int8 kernels for a CPU without compiling
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic


def supported(device: torch.device) -> bool:
    """Whether `to_int8` works and pays there."""
    return device.type == "cpu" and torch.backends.quantized.engine in ("x86", "onednn", "fbgemm")


@torch.no_grad()
def to_int8(model: CausalTransformer, heads: Sequence[slice]) -> None:
    """Round the matrices of the blocks in place, and of `heads`, the ranges of ids that logits are asked for.

    The embedding stays as it is. The model cannot be trained or saved afterwards.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        quantize_dynamic(model.model.layers, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)
        for ids in heads:
            rows_VD = model.lm_head.weight[ids]
            head = nn.Linear(rows_VD.shape[1], rows_VD.shape[0], bias=False)
            head.weight.copy_(rows_VD)
            model.heads[ids.start, ids.stop] = quantize_dynamic(
                nn.Sequential(head), {nn.Linear: per_channel_dynamic_qconfig}
            )
