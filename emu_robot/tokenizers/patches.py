"""Image codes without a network: a cell's pixels less the background, as the sum of one vector of each of P books.

The books are clusters, see `training.clusters`. A cell that shows the background has the same codes at every place, and
so have equal things in front of it.

Shapes: B batch, C channels, H W image in pixels, h w grid of cells, N cells, E components, K codes, P books.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emu_robot.errors import InvalidValueError
from emu_robot.tokenizers.local_encoder import distinct
from emu_robot.tokenizers.quantizer import Quantized

BEAM = 4
"""Choices of the first books that are compared by what the later ones make of them."""
CELLS_AT_ONCE = 1024


class PatchEncoder(nn.Module):
    """(B, 3, H, W) -> (B, 3 cell^2, h, w): each cell's pixels less the background."""

    def __init__(self, resolution: int, cell: int) -> None:
        super().__init__()
        self.cell = cell
        self.background = nn.Parameter(torch.zeros(3, resolution, resolution))

    def forward(self, images: Tensor) -> Tensor:
        return F.pixel_unshuffle(images - self.background, self.cell)


class PatchDecoder(nn.Module):
    """The inverse of `PatchEncoder`."""

    def __init__(self, resolution: int, cell: int) -> None:
        super().__init__()
        self.cell = cell
        self.background = nn.Parameter(torch.zeros(3, resolution, resolution))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, self.cell) + self.background


class ResidualQuantizer(nn.Module):
    """P codes for each cell: each book codes what the books before it left.

    The books share one numbering: codes of the first one come first. The codes of a cell follow one another, so that a
    row of w cells has w P codes. `BEAM` choices are kept from book to book; the sum that is nearest counts.
    """

    def __init__(self, n_embed: int, embed_dim: int, parts: int) -> None:
        super().__init__()
        self._size = n_embed // parts
        self.books = nn.Parameter(torch.zeros(parts, self._size, embed_dim))

    def forward(self, z_BEhw: Tensor) -> Quantized:
        """The codes have no gradient: clusters are not trained by steps."""
        raise InvalidValueError("an image tokenizer of encoder=patches is made of clusters, not trained by steps")

    @torch.no_grad()
    def encode(self, z_BEhw: Tensor) -> Tensor:
        """Codes (B, h, w P) int64 of features."""
        cells_NE = z_BEhw.movedim(1, -1).flatten(0, 2)
        first_U, like_N = distinct(cells_NE)
        numbering = self._size * torch.arange(len(self.books), device=z_BEhw.device)
        codes_NP = (self.nearest(cells_NE[first_U]) + numbering)[like_N]
        batch, _, height, width = z_BEhw.shape
        return codes_NP.view(batch, height, width * len(self.books))

    def decode(self, codes_Bhw: Tensor) -> Tensor:
        """Features (B, E, h, w) of codes (B, h, w P). A code of another book stands for its counterpart."""
        own = (codes_Bhw % self._size).unflatten(-1, (-1, len(self.books))).unbind(-1)
        return sum(book[codes] for book, codes in zip(self.books, own, strict=True)).movedim(-1, 1)  # pyright: ignore

    def codebook(self) -> Tensor:
        """(K, E + P) unit vectors for comparing codes: those of another book are far away."""
        parts = len(self.books)
        lengths = self.books.detach().float().square().sum(-1).mean(1).sqrt().clamp(min=1e-6)
        scaled = self.books.detach().float() / lengths[:, None, None]
        own = torch.eye(parts, device=scaled.device)[:, None].expand(-1, self._size, -1)
        return F.normalize(torch.cat([scaled, own], -1).flatten(0, 1), dim=-1)

    def nearest(self, cells_NE: Tensor) -> Tensor:
        """(N, P) codes of cells, each in the numbering of its own book."""
        return torch.cat([self._nearest(cells) for cells in cells_NE.split(CELLS_AT_ONCE)])

    def _nearest(self, cells_NE: Tensor) -> Tensor:
        cells = cells_NE.float()
        left_NME = cells[:, None]
        chosen_NMp = torch.zeros(len(cells), 1, 0, dtype=torch.int64, device=cells.device)
        for i, book_SE in enumerate(self.books.float()):
            length_S = book_SE.square().sum(-1)
            error_NMS = left_NME.square().sum(-1, keepdim=True) + torch.addmm(
                length_S, left_NME.flatten(0, 1), book_SE.T, alpha=-2
            ).view(*left_NME.shape[:2], -1)
            errors = error_NMS.flatten(1)
            if i == len(self.books) - 1:
                best = errors.argmin(1, keepdim=True)
            else:
                best = errors.topk(min(BEAM, errors.shape[1]), largest=False).indices
            before, code = best // self._size, best % self._size
            rows = torch.arange(len(cells), device=cells.device)[:, None]
            chosen_NMp = torch.cat([chosen_NMp[rows, before], code[..., None]], -1)
            left_NME = left_NME[rows, before] - book_SE[code]
        return chosen_NMp[:, 0]
