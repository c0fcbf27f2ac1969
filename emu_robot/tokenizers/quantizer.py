"""Index back-propagation quantisation (IBQ): every code of the book receives gradient at every step.

Shapes: N positions, D embedding, K codes, P codes of a position.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emu_robot.models.digits import join_digits, split_digits

ENTROPY_POSITIONS = 512


class Quantized(NamedTuple):
    """A quantised feature map."""

    z_q: Tensor
    """Embeddings (B, D, h, w), with gradient to the encoder and to all codes."""
    codes: Tensor
    """Codes (B, h, w) int64."""
    loss: Tensor
    """Loss of the quantiser, a scalar."""
    entropy_loss: Tensor
    """Entropy loss, a scalar."""


class IndexBackpropagationQuantizer(nn.Module):
    """The code of a position is the argmax over codes of the inner product z.e (of unit vectors when `l2_norm`).

    `scale` multiplies the inner products inside the training softmax; it does not change the codes.
    """

    def __init__(self, n_embed: int, embed_dim: int, beta: float = 0.25, l2_norm: bool = False, scale: float = 1.0):
        super().__init__()
        self.beta, self.l2_norm, self.scale = beta, l2_norm, scale
        self.embedding = nn.Embedding(n_embed, embed_dim)
        nn.init.normal_(self.embedding.weight, std=embed_dim**-0.5)

    def forward(self, z_BDhw: Tensor) -> Quantized:
        """Quantise a feature map for training, always in float32."""
        with torch.autocast(z_BDhw.device.type, enabled=False):
            return self._quantize(z_BDhw.float())

    def _quantize(self, z_BDhw: Tensor) -> Quantized:
        batch, dim, height, width = z_BDhw.shape
        z, book = self._normal(z_BDhw.permute(0, 2, 3, 1).reshape(-1, dim)), self.codebook()
        logits_NK = self.scale * (z @ book.T)
        codes = logits_NK.argmax(-1)
        z_hard = book[codes]
        # (hard - stopgrad(p) + p) @ E without the N x K matrices of hard: same value, same gradients.
        z_soft = logits_NK.softmax(-1) @ book.detach()
        z_q = z_hard + (z_soft - z_soft.detach())
        commitment = self.beta * (z_hard - z.detach()).square().mean()
        loss = (z_q - z).square().mean() + (z_hard.detach() - z).square().mean() + commitment
        z_q = z_q.view(batch, height, width, dim).permute(0, 3, 1, 2)
        return Quantized(z_q, codes.view(batch, height, width), loss, self._entropy_loss(logits_NK))

    def _entropy_loss(self, logits_NK: Tensor) -> Tensor:
        """Entropy loss of some positions spread over the batch. All of them would cost as much as the rest."""
        stride = max(len(logits_NK) // ENTROPY_POSITIONS, 1)
        return entropy_loss(logits_NK[::stride] / self.scale)

    def encode(self, z_BDhw: Tensor) -> Tensor:
        """Codes (B, h, w) int64 of a feature map."""
        return (self._normal(z_BDhw.movedim(1, -1)) @ self.codebook().T).max(-1).indices

    def decode(self, codes_Bhw: Tensor) -> Tensor:
        """Embeddings (B, D, h, w) of codes."""
        return self._normal(self.embedding(codes_Bhw)).movedim(-1, 1)

    def codebook(self) -> Tensor:
        """The codebook (K, D); unit vectors if `l2_norm`."""
        return self._normal(self.embedding.weight)

    def books(self) -> Tensor:
        """(1, K, D) the only codebook, as several would be given."""
        return self.codebook()[None]

    def _normal(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) if self.l2_norm else x

    @torch.no_grad()
    def initialize(self, z_BDhw: Tensor) -> None:
        """Initialise the codebook from encoder outputs, so that no code is far from all data."""
        z = self._normal(z_BDhw.movedim(1, -1).reshape(-1, z_BDhw.shape[1]))
        book = self.embedding.weight
        chosen = z[torch.randint(len(z), (len(book),))]
        book.copy_(chosen + 0.02 * chosen.std() * torch.randn_like(book))

    @torch.no_grad()
    def revive(self, z_BDhw: Tensor) -> int:
        """Move every code that these encoder outputs do not use to an output with a poor fit. Returns how many moved.

        Outputs are drawn with a probability that grows as the square of their distance to their code.
        """
        z, book = self._normal(z_BDhw.movedim(1, -1).reshape(-1, z_BDhw.shape[1]).float()), self.codebook()
        codes = (z @ book.T).argmax(-1)
        idle = torch.bincount(codes, minlength=len(book)) == 0
        if idle.any():
            misfit = (z - book[codes]).square().sum(-1)
            chosen = torch.multinomial(misfit + 1e-12, int(idle.sum()), replacement=True)
            self.embedding.weight[idle] = z[chosen]
        return int(idle.sum())


class ProductQuantizer(nn.Module):
    """Several codes for each position: the vector is cut into P parts, each with a codebook of its own.

    The code of a position is a number with P digits, see `join_digits`.
    """

    def __init__(self, n_embed: int, embed_dim: int, beta: float, l2_norm: bool, scale: float, parts: int) -> None:
        super().__init__()
        sizes = (n_embed // parts, embed_dim // parts, beta, l2_norm, scale)
        self.parts = nn.ModuleList(IndexBackpropagationQuantizer(*sizes) for _ in range(parts))
        self._size = n_embed // parts

    def forward(self, z_BDhw: Tensor) -> Quantized:
        """Quantise a feature map for training, always in float32."""
        each = [part(z) for part, z in self._split(z_BDhw)]
        return Quantized(
            torch.cat([one.z_q for one in each], 1),
            self._joined([one.codes for one in each]),
            torch.stack([one.loss for one in each]).mean(),
            torch.stack([one.entropy_loss for one in each]).mean(),
        )

    def encode(self, z_BDhw: Tensor) -> Tensor:
        """Codes (B, h, w) int64 of a feature map."""
        return self._joined([part.encode(z) for part, z in self._split(z_BDhw)])

    def decode(self, codes_Bhw: Tensor) -> Tensor:
        """Embeddings (B, D, h, w) of codes (B, h, w)."""
        own = split_digits(codes_Bhw, self._size, len(self.parts)).unbind(-1)
        return torch.cat([part.decode(codes) for part, codes in zip(self._books(), own, strict=True)], 1)

    def books(self) -> Tensor:
        """(P, K / P, D / P) the codebook of each part."""
        return torch.stack([part.codebook() for part in self._books()])

    def initialize(self, z_BDhw: Tensor) -> None:
        """See `IndexBackpropagationQuantizer.initialize`."""
        for part, z in self._split(z_BDhw):
            part.initialize(z)

    def revive(self, z_BDhw: Tensor) -> int:
        """See `IndexBackpropagationQuantizer.revive`."""
        return sum(part.revive(z) for part, z in self._split(z_BDhw))

    def _books(self) -> list[IndexBackpropagationQuantizer]:
        return [part for part in self.parts if isinstance(part, IndexBackpropagationQuantizer)]

    def _split(self, z_BDhw: Tensor) -> list[tuple[IndexBackpropagationQuantizer, Tensor]]:
        return list(zip(self._books(), z_BDhw.chunk(len(self.parts), 1), strict=True))

    def _joined(self, codes: Sequence[Tensor]) -> Tensor:
        return join_digits(torch.stack(list(codes), -1), self._size)


def entropy_loss(logits_NK: Tensor, temperature: float = 0.01) -> Tensor:
    """Mean entropy of each position's code distribution minus the entropy of the batch's mean distribution."""
    log_p = (logits_NK / temperature).log_softmax(-1)
    p = log_p.exp()
    mean = p.mean(0)
    return -(p * log_p).sum(-1).mean() + (mean * (mean + 1e-5).log()).sum()
