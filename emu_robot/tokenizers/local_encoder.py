"""An image encoder that codes every cell by itself: equal pixels get equal codes, at any place and in any surroundings.

A planner can then copy cells that do not change, and its knowledge of a code holds at every place. The official
encoder, with attention and group norm over the whole image, gave 58 % of the unchanged cells another code from one
keyframe to the next; a local one with 12 px of context and learned positions still 24 %, this one none.

Shapes: B batch, C channels, H W image in pixels, h w grid of codes, N = B h w cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each position of (B, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Norm, convolution, SiLU, convolution, plus the input; a kernel of 1 keeps positions apart."""

    def __init__(self, channels: int, inner: int, kernel: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, inner, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(inner, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(self.norm(x))))


def distinct(cells: Tensor) -> tuple[Tensor, Tensor]:
    """The rows (U,) of cells that differ from each other, and for every cell (N,) the number of its like among them.

    Cells are compared by a random projection of their values.
    """
    pixels_NC = cells.flatten(1).double()
    generator = torch.Generator().manual_seed(0)
    direction_C = torch.randn(pixels_NC.shape[1], generator=generator, dtype=torch.float64).to(pixels_NC.device)
    _values, like_N = torch.unique(pixels_NC @ direction_C, return_inverse=True)
    rows_N = torch.arange(len(like_N), device=like_N.device)
    first_U = torch.full_like(rows_N[: int(like_N.max()) + 1], len(like_N)).scatter_reduce(0, like_N, rows_N, "amin")
    return first_U, like_N


class LocalEncoder(nn.Module):
    """(B, 3, H, W) -> (B, z_channels, h, w), h = H / downscale."""

    def __init__(self, *, ch: int, width: int, blocks: int, patch_size: int, downscale: int, z_channels: int) -> None:
        super().__init__()
        self.patch_size, self.downscale = patch_size, downscale
        inside = downscale // patch_size
        self.conv_in = nn.Conv2d(3 * patch_size**2, ch, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(ch, inside, inside))  # within the cell
        self.fine = ResidualBlock(ch, ch, 3)
        self.to_cells = nn.Conv2d(ch, width, inside)
        self.cells = nn.Sequential(*(ResidualBlock(width, 2 * width, 1) for _ in range(blocks)))
        self.norm_out = ChannelNorm(width)
        self.conv_out = nn.Conv2d(width, z_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self._inside(self.split(images))
        height, width = (length // self.downscale for length in images.shape[2:])
        return self._outside(x.view(-1, height, width, x.shape[1]).permute(0, 3, 1, 2))

    def of_cells(self, cells_N3ss: Tensor) -> Tensor:
        """(N, z_channels, 1, 1) of cells as `split` gives them."""
        return self._outside(self._inside(cells_N3ss))

    def _inside(self, cells_N3ss: Tensor) -> Tensor:
        """(N, width, 1, 1): each cell's pixels as one vector."""
        x = self.conv_in(F.pixel_unshuffle(cells_N3ss, self.patch_size)) + self.position
        return self.to_cells(self.fine(x))

    def _outside(self, x: Tensor) -> Tensor:
        """width -> z_channels, for each vector by itself."""
        return self.conv_out(self.norm_out(self.cells(x)))

    def split(self, images: Tensor) -> Tensor:
        """(N, 3, downscale, downscale), cells row by row."""
        batch, colours, height, width = images.shape
        size = self.downscale
        cells = images.reshape(batch, colours, height // size, size, width // size, size)
        return cells.permute(0, 2, 4, 1, 3, 5).reshape(-1, colours, size, size)
