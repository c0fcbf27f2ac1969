"""Flow matching over flat vectors: a residual MLP that denoises, its training target, and its sampler.

Time runs from 0 (Gaussian noise) to 1 (data) along straight lines. The network predicts the data end of the line. This
has the same optimum as the velocity and is easier for a small network. Knows nothing of robots.
Suffixes: B batch, N noise samples per context, D data, F features.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from emu_robot.models.vision import zero_init


class ModulatedBlock(nn.Module):
    """A residual MLP block. A condition scales, shifts and gates its normalised input (adaLN-zero)."""

    def __init__(self, width: int, condition_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(condition_dim, 3 * width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        zero_init(self.modulation)

    def forward(self, x_F: Tensor, modulation_F: Tensor) -> Tensor:
        """modulation_F: `modulation` of the condition."""
        scale_F, shift_F, gate_F = modulation_F.chunk(3, dim=-1)
        return torch.addcmul(x_F, gate_F, self.mlp(torch.addcmul(shift_F, self.norm(x_F), 1 + scale_F)))


class FlowDecoder(nn.Module):
    """p(data | context) over vectors of `data_dim` numbers of about unit variance."""

    time_features = 64

    def __init__(self, data_dim: int, context_dim: int, width: int, blocks: int) -> None:
        super().__init__()
        self.data_dim = data_dim
        self.data_in = nn.Linear(data_dim, width)
        self.context_in = nn.Linear(context_dim, width)
        self.time_in = nn.Sequential(nn.Linear(self.time_features, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(ModulatedBlock(width, width) for _ in range(blocks))
        self.out = nn.Linear(width, data_dim)
        self.traced: Any = None  # `modulations` and `predict` as traced code

    def forward(self, noisy_BND: Tensor, time_BN: Tensor, context_BF: Tensor) -> Tensor:
        """Predicted data (B, N, D) from points on the lines at times in [0, 1)."""
        return self.predict(noisy_BND, *self.modulations(time_BN, context_BF))

    def modulations(self, time_BN: Tensor, context_BF: Tensor) -> tuple[Tensor, Tensor]:
        """All that does not depend on the noisy data: the context's features (B, 1, F), the blocks' modulations."""
        context_B1F = self.context_in(context_BF)[:, None]
        condition_BNF = nn.functional.gelu(context_B1F + self.time_in(self._time_features(time_BN)))
        return context_B1F, torch.cat([block.get_submodule("modulation")(condition_BNF) for block in self.blocks], -1)

    def predict(self, noisy_BND: Tensor, context_B1F: Tensor, modulations_BNM: Tensor) -> Tensor:
        """Predicted data (B, N, D) from noisy data and what `modulations` gives."""
        x_BNF = self.data_in(noisy_BND) + context_B1F
        for block, modulation_BNF in zip(self.blocks, modulations_BNM.chunk(len(self.blocks), -1), strict=True):
            x_BNF = block(x_BNF, modulation_BNF)
        return self.out(x_BNF)

    def _time_features(self, time_BN: Tensor) -> Tensor:
        half = self.time_features // 2
        rates_F = torch.exp(torch.linspace(0, math.log(200.0), half, device=time_BN.device))
        angles_BNF = time_BN[..., None] * rates_F
        return torch.cat([angles_BNF.sin(), angles_BNF.cos()], dim=-1)

    @torch.no_grad()
    def sample(
        self, context_BF: Tensor, noise_BD: Tensor, steps: int, known: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Integrate from noise (B, D) to data (B, D) with Euler steps; the last step lands on the prediction.

        What depends on time and context alone is computed for all steps together.
        known: data (B, D), and the share (B, D) in [0, 1] of each prediction that it replaces (inpainting).
        """
        x_BND = noise_BD[:, None]
        time_BN = torch.arange(steps, device=x_BND.device).to(x_BND.dtype).expand(len(x_BND), -1) / steps
        network = self if self.traced is None else self.traced
        context_B1F, modulations_BNM = network.modulations(time_BN, context_BF)
        for index in range(steps):
            data_BND = network.predict(x_BND, context_B1F, modulations_BNM[:, index : index + 1])
            if known is not None:
                data_BND = torch.lerp(data_BND, known[0][:, None], known[1][:, None])
            x_BND = torch.lerp(x_BND, data_BND, 1 / (steps - index))  # the rest of the way is steps - index long
        return x_BND[:, 0]


def interpolate(noise_BND: Tensor, data_BD: Tensor, time_BN: Tensor) -> Tensor:
    """Points (B, N, D) at `time_BN` on the lines from noise to data."""
    time_BN1 = time_BN[..., None]
    return (1 - time_BN1) * noise_BND + time_BN1 * data_BD[:, None]


def sample_times(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Training times in [0, 1), denser near the noise end, where the context matters most."""
    return 1 - torch.rand(shape, generator=generator).clamp_min(1e-4) ** (1 / 1.5)
