"""An image tokenizer of clusters: the cells of a set's pictures, less the background of the fixed camera, projected on
principal components and clustered by k-means, one book of codes after the other.

Colour weighs more than brightness, since objects differ in it, and most of the brightness is the arm's. Two minutes of
one core gave better codes than an hour of training a network (docs/training.md).

Shapes: M images, N cells, C values of a cell, E components, K codes of a book.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emu_robot.data.mapped_images import ImageSource
from emu_robot.errors import DataError
from emu_robot.shared.progress import progress
from emu_robot.shared.settings import check_ranges, number
from emu_robot.tokenizers.image import ImageTokenizer, ImageTokenizerConfig, to_pixels
from emu_robot.tokenizers.patches import BEAM, CELLS_AT_ONCE, PatchDecoder, PatchEncoder, ResidualQuantizer, cell_values

PICTURES_AT_ONCE = 256
VISIBLE = 0.1
"""Least difference from the background, of a range of 2, of a cell that is clustered."""
CLEAR = 0.6
"""Least difference from the background's colour, of a range of 2, that counts as clear."""
SPARE = 2
"""Cells that are taken for each that may be clustered, since some are equal; no more fit the memory."""
COPIES = 3 * SPARE
"""Times that the memory holds the cells, at most."""
TIMED_CELLS = 8192
CELLS_OF_A_CODE = 4
"""Least cells for each code of a book, where the cells choose its size."""


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Settings of the clusters of an image tokenizer with encoder=patches."""

    pictures: int = number(40_000, 1)
    """Most pictures of which cells are taken, drawn at random."""
    cells: int = number(200_000, 1)
    """Most cells that are clustered."""
    rounds: int = number(10, 1)
    """Rounds of k-means for each book."""
    joint_rounds: int = number(4, 0)
    """Rounds in which all books are fitted to each other, after k-means."""
    colour: float = number(3.0, above=0)
    """Weight of a difference in colour; one in brightness has weight 1."""
    plain_share: float = number(0.15, 0, 1)
    """Share of the cells without a clear colour, such as those of the arm, that are clustered."""
    seed: int = number(0, 0)
    """Seed of the choice of cells and of first centres."""

    def __post_init__(self) -> None:
        check_ranges(self, "clusters")


def few_cells_fit(config: ImageTokenizerConfig, n_cells: int) -> ImageTokenizerConfig:
    """The configuration with books and components that so many cells can fill, at most its own.

    Raises `DataError` if they are too few for any book.
    """
    most = n_cells // CELLS_OF_A_CODE
    if most < 2:
        raise DataError(f"{n_cells} different cells, clusters need at least {2 * CELLS_OF_A_CODE}: too little moves")
    book = min(config.n_embed // config.code_books, 2 ** (most.bit_length() - 1))
    components = min(config.embed_dim, n_cells)
    return replace(config, n_embed=book * config.code_books, embed_dim=components)


@torch.no_grad()
def clustered(
    config: ImageTokenizerConfig, cells_NC: Tensor, background_3HW: Tensor, how: ClusterConfig
) -> ImageTokenizer:
    """The tokenizer made of cells, see `cells_of`. background: in [-1, 1].

    Raises `DataError` if there are fewer cells than a book has codes.
    """
    tokenizer = ImageTokenizer(config)
    encoder, decoder, quantizer = tokenizer.encoder, tokenizer.decoder, tokenizer.quantize
    assert isinstance(encoder, PatchEncoder) and isinstance(decoder, PatchDecoder)
    assert isinstance(quantizer, ResidualQuantizer)
    for one in (encoder, decoder):
        one.background.copy_(background_3HW)
    components, size = config.embed_dim, quantizer.vectors.shape[1]
    if len(cells_NC) < max(size, components):
        raise DataError(
            f"{len(cells_NC)} different cells for {size} codes: give more pictures or a smaller model.n_embed"
        )
    spread_33 = colour_axes(how.colour)
    axes_CE = torch.linalg.eigh((cells_NC.T @ cells_NC).double())[1][:, -components:].float()
    per_pixel = torch.eye(config.downscale**2)
    tokenizer.quant_conv.weight.copy_((axes_CE.T @ torch.kron(spread_33, per_pixel))[..., None, None])
    tokenizer.post_quant_conv.weight.copy_(
        (torch.kron(spread_33.inverse().contiguous(), per_pixel) @ axes_CE)[..., None, None]
    )
    for conv in (tokenizer.quant_conv, tokenizer.post_quant_conv):
        assert conv.bias is not None
        conv.bias.zero_()
    vectors_NE = cells_NC @ axes_CE
    left_NE = vectors_NE.clone()
    with progress("clustering", len(quantizer.vectors) * how.rounds + how.joint_rounds) as report:
        for i, book in enumerate(quantizer.vectors):
            generator = torch.Generator().manual_seed(how.seed + i)
            book.copy_(k_means(left_NE, len(book), how.rounds, generator, report))
            left_NE -= book[nearest(left_NE, book)]
        for _ in range(how.joint_rounds if len(quantizer.vectors) > 1 else 0):
            fit_jointly(quantizer.vectors, quantizer.nearest(vectors_NE), vectors_NE)
            report("")
    return tokenizer.eval().requires_grad_(False)


def expected_seconds(config: ImageTokenizerConfig, n_cells: int, how: ClusterConfig) -> float:
    """How long `clustered` will take for so many cells, by a round of one book with some that are made up [s]."""
    some = min(n_cells, TIMED_CELLS)
    vectors_NE = torch.randn(some, config.embed_dim, generator=torch.Generator().manual_seed(0))
    begun = time.monotonic()
    nearest(vectors_NE, vectors_NE[: config.n_embed // config.code_books])
    round_s = (time.monotonic() - begun) * n_cells / some
    passes = 1 + BEAM * (config.code_books - 1)
    return round_s * (how.rounds * config.code_books + how.joint_rounds * passes)


def colour_axes(colour: float) -> Tensor:
    """(3, 3): red, green, blue -> brightness, and twice colour."""
    return torch.tensor([[1 / 3, 1 / 3, 1 / 3], [colour, -colour, 0], [colour / 2, colour / 2, -colour]])


@torch.no_grad()
def cells_of(
    images: ImageSource, rows: NDArray[np.int64], background_3HW: Tensor, cell: int, how: ClusterConfig
) -> Tensor:
    """(N, C) different cells of these rows of images (M, H, W, 3) that differ from the background, brightness and
    colours pixel by pixel. background: in [-1, 1]. cell: side [px]."""
    rng, spread_33 = np.random.default_rng(how.seed), colour_axes(how.colour)
    chosen, kept = rng.permutation(rows)[: how.pictures], []
    for begin in range(0, len(chosen), PICTURES_AT_ONCE):
        pixels = to_pixels(torch.from_numpy(images[np.sort(chosen[begin : begin + PICTURES_AT_ONCE])]))
        values = cell_values(pixels, background_3HW, cell).movedim(1, -1).flatten(0, 2)
        cells_N3P = spread_33 @ values.unflatten(1, (3, -1))
        clear = cells_N3P[:, 1:].abs().amax((1, 2)) > CLEAR * how.colour
        some = torch.from_numpy(rng.random(len(cells_N3P)) < how.plain_share)
        visible = cells_N3P.abs().amax((1, 2)) > VISIBLE
        kept.append(cells_N3P[(clear | some) & visible].flatten(1))
        if sum(map(len, kept)) > SPARE * how.cells:
            break
    cells_NC = torch.unique(torch.cat(kept), dim=0)
    return cells_NC[torch.from_numpy(rng.permutation(len(cells_NC))[: how.cells])]


def nearest(vectors_NE: Tensor, centres_KE: Tensor) -> Tensor:
    """(N,) the nearest centre of each vector."""
    length_K = centres_KE.square().sum(1)
    blocks = vectors_NE.split(4 * CELLS_AT_ONCE)
    return torch.cat([(2 * block @ centres_KE.T - length_K).argmax(1) for block in blocks])


def fit_jointly(books_PKE: Tensor, codes_NP: Tensor, vectors_NE: Tensor, sweeps: int = 3) -> None:
    """Move the centres of each book, in place, to the mean of what the other books leave; the first centre stays 0.

    codes: (N, P) of the vectors, each in the numbering of its own book.
    """
    for _ in range(sweeps):
        for i, book in enumerate(books_PKE):
            others = [books_PKE[j][codes_NP[:, j]] for j in range(len(books_PKE)) if j != i]
            left_NE = vectors_NE - torch.stack(others).sum(0)
            move_to_means(book, codes_NP[:, i], left_NE)
            book[0] = 0


def move_to_means(centres_KE: Tensor, own_N: Tensor, vectors_NE: Tensor) -> Tensor:
    """Move each centre, in place, to the mean of its vectors. own: of each vector. Returns (K,) which ones have any."""
    members = torch.bincount(own_N, minlength=len(centres_KE))
    used = members > 0
    total = torch.zeros_like(centres_KE).index_add_(0, own_N, vectors_NE)
    centres_KE[used] = total[used] / members[used, None]
    return used


def k_means(vectors_NE: Tensor, count: int, rounds: int, generator: torch.Generator, report=lambda _: None) -> Tensor:
    """(count, E) centres. The first one is 0. Idle ones move to a vector, with odds of its squared distance."""
    centres = vectors_NE[torch.randperm(len(vectors_NE), generator=generator)[:count]].clone()
    for _ in range(rounds):
        centres[0] = 0
        near = nearest(vectors_NE, centres)
        misfit_N = (vectors_NE - centres[near]).square().sum(1)
        used = move_to_means(centres, near, vectors_NE)
        if not used.all():
            moved = torch.multinomial(misfit_N + 1e-9, int((~used).sum()), generator=generator)
            centres[~used] = vectors_NE[moved]
        report("")
    centres[0] = 0
    return centres
