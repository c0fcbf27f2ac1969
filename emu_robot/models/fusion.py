"""The same transformer in fewer operations, for decoding on a CPU, where a pass of one token costs what its calls cost.

Matrices that read the same input become one, queries and keys are normed together, and what a block does before and
after its attention becomes traced code, recorded from the block itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emu_robot.models.tracing import traced
from emu_robot.models.transformer import MLP, Attention, Block, CausalTransformer, rotation


def joined(*layers: nn.Linear) -> nn.Linear:
    """Layers without bias that read the same input, as one."""
    linear = nn.Linear(layers[0].in_features, sum(layer.out_features for layer in layers), bias=False)
    linear.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]), requires_grad=False)
    return linear


class JoinedHeads(nn.Module):
    """Normed queries and keys (B, L, H + G, P), and values (B, L, G, P), of (B, L, D)."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.linear = joined(attention.q_proj, attention.k_proj, attention.v_proj)
        self.sizes, self.dim = (attention.heads + attention.groups, attention.groups), attention.dim
        self.eps = attention.q_norm.eps
        norms = [
            attention.q_norm.weight.expand(attention.heads, -1),
            attention.k_norm.weight.expand(attention.groups, -1),
        ]
        self.weight = nn.Parameter(torch.cat(norms), requires_grad=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        turning, v = self.linear(x).unflatten(-1, (-1, self.dim)).split(self.sizes, 2)
        return F.rms_norm(turning, (self.dim,), None, self.eps) * self.weight, v


class JoinedGate(nn.Module):
    """Gate and values of a SwiGLU."""

    def __init__(self, mlp: MLP) -> None:
        super().__init__()
        self.linear = joined(mlp.gate_proj, mlp.up_proj)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(x).chunk(2, -1)


@torch.no_grad()
def join(model: CausalTransformer) -> None:
    """Join the matrices of every block, in place. The model cannot be trained or saved afterwards."""
    for block in model.model.layers:
        assert isinstance(block, Block)
        attention, mlp = block.self_attn, block.mlp
        attention.joined, mlp.joined = JoinedHeads(attention), JoinedGate(mlp)
        del attention.q_proj, attention.k_proj, attention.v_proj, attention.q_norm, attention.k_norm
        del mlp.gate_proj, mlp.up_proj


def trace(model: CausalTransformer) -> None:
    """Trace every block, in place, see `models.tracing`."""
    weight, config = model.lm_head.weight, model.config
    x = torch.zeros(1, 2, config.hidden_size, dtype=weight.dtype, device=weight.device)
    cos, sin = rotation(torch.zeros(1, 2, device=weight.device), config)
    attended = x.new_zeros(1, config.num_attention_heads, 2, config.head_dim)
    for block in model.model.layers:
        block.traced = traced(block, before=(x, cos, sin), after=(x, attended))
