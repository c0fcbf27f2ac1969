"""Image codes without a network: a cell's pixels less the background, as the sum of one vector of each of P books.

The books are clusters, see `training.clusters`. A cell that shows the background has the same codes at every place, and
so have equal things in front of it.

Shapes: B batch, C channels, H W image in pixels, h w grid of cells, N cells, E components, S codes of a book, P books.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emu_robot.models.digits import join_digits, split_digits
from emu_robot.tokenizers.local_encoder import distinct

BEAM = 4
"""Choices of the first books that are compared by what the later ones make of them."""
CELLS_AT_ONCE = 1024


def cell_values(images_B3HW: Tensor, background_3HW: Tensor, cell: int) -> Tensor:
    """(B, 3 cell^2, h, w): each cell's pixels less the background."""
    return F.pixel_unshuffle(images_B3HW - background_3HW, cell)


class PatchEncoder(nn.Module):
    """(B, 3, H, W) -> (B, 3 cell^2, h, w): each cell's pixels less the background."""

    def __init__(self, resolution: int, cell: int) -> None:
        super().__init__()
        self.cell = cell
        self.background = nn.Parameter(torch.zeros(3, resolution, resolution))

    def forward(self, images: Tensor) -> Tensor:
        return cell_values(images, self.background, self.cell)


class PatchDecoder(nn.Module):
    """The inverse of `PatchEncoder`."""

    def __init__(self, resolution: int, cell: int) -> None:
        super().__init__()
        self.cell = cell
        self.background = nn.Parameter(torch.zeros(3, resolution, resolution))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, self.cell) + self.background


class ResidualQuantizer(nn.Module):
    """A code with P digits for each cell: each book codes what the books before it left, see `join_digits`.

    `BEAM` choices are kept from book to book; the sum that is nearest counts.
    """

    def __init__(self, n_embed: int, embed_dim: int, parts: int) -> None:
        super().__init__()
        self._size = n_embed // parts
        self.vectors = nn.Parameter(torch.zeros(parts, self._size, embed_dim))

    @torch.no_grad()
    def encode(self, z_BEhw: Tensor) -> Tensor:
        """Codes (B, h, w) int64 of features."""
        cells_NE = z_BEhw.movedim(1, -1).flatten(0, 2)
        first_U, like_N = distinct(cells_NE)
        codes_U = join_digits(self.nearest(cells_NE[first_U]), self._size)
        batch, _, height, width = z_BEhw.shape
        return codes_U[like_N].view(batch, height, width)

    def decode(self, codes_Bhw: Tensor) -> Tensor:
        """Features (B, E, h, w) of codes (B, h, w)."""
        own = split_digits(codes_Bhw, self._size, len(self.vectors)).unbind(-1)
        return torch.stack([book[codes] for book, codes in zip(self.vectors, own, strict=True)]).sum(0).movedim(-1, 1)

    def books(self) -> Tensor:
        """(P, S, E + 1) unit vectors for comparing the codes of each book."""
        vectors = self.vectors.detach().float()
        lengths = vectors.square().sum(-1).mean(1).sqrt().clamp(min=1e-6)
        return F.normalize(F.pad(vectors / lengths[:, None, None], (0, 1), value=1.0), dim=-1)

    def nearest(self, cells_NE: Tensor) -> Tensor:
        """(N, P) digits of cells."""
        return torch.cat([self._nearest(cells) for cells in cells_NE.split(CELLS_AT_ONCE)])

    def _nearest(self, cells_NE: Tensor) -> Tensor:
        cells = cells_NE.float()
        left_NME = cells[:, None]
        chosen_NMp = torch.zeros(len(cells), 1, 0, dtype=torch.int64, device=cells.device)
        for i, book_SE in enumerate(self.vectors.float()):
            length_S = book_SE.square().sum(-1)
            error_NMS = left_NME.square().sum(-1, keepdim=True) + torch.addmm(
                length_S, left_NME.flatten(0, 1), book_SE.T, alpha=-2
            ).view(*left_NME.shape[:2], -1)
            errors = error_NMS.flatten(1)
            if i == len(self.vectors) - 1:
                best = errors.argmin(1, keepdim=True)
            else:
                best = errors.topk(min(BEAM, errors.shape[1]), largest=False).indices
            before, code = best // self._size, best % self._size
            rows = torch.arange(len(cells), device=cells.device)[:, None]
            chosen_NMp = torch.cat([chosen_NMp[rows, before], code[..., None]], -1)
            left_NME = left_NME[rows, before] - book_SE[code]
        return chosen_NMp[:, 0]
