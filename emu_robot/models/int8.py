"""int8 on the CPU: weights rounded per output channel, activations per pass, sums in int32.

With `mini` on one core, a pass of one token takes 0.6 of the time of float32, an image in one pass half; the weights
take a quarter of the memory. docs/RESULTS.md shows the cost in words and pictures.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from emu_robot.models.fusion import join, trace
from emu_robot.models.transformer import CausalTransformer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its successor, torchao, has no int8 kernels for a CPU without compiling
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic


def supported(device: torch.device) -> bool:
    """Whether `to_int8` works on this device and saves time."""
    return device.type == "cpu" and torch.backends.quantized.engine in ("x86", "onednn", "fbgemm")


@torch.no_grad()
def to_int8(model: CausalTransformer, heads: Sequence[slice]) -> None:
    """Round the matrices of the blocks and of `heads`, the ranges of ids with logits, in place.

    Blocks are fused, see `models.fusion`. The embedding stays as it is. The model cannot be trained or saved
    afterwards.
    """
    join(model)
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
    trace(model)
