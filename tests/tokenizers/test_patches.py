"""Image codes of clusters: what a cell's codes mean, and how they are found."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emu_robot.errors import DataError, InvalidValueError
from emu_robot.models.weights import save_weights
from emu_robot.tokenizers.image import EncoderKind, ImageTokenizer, ImageTokenizerConfig, to_pixels
from emu_robot.tokenizers.patches import ResidualQuantizer
from emu_robot.training.clusters import ClusterConfig, cells_of, clustered, few_cells_fit, fit_jointly, k_means

SIDE, CELL = 32, 8
BACKGROUND = np.full((SIDE, SIDE, 3), 120, np.uint8)
EMPTY = to_pixels(torch.from_numpy(BACKGROUND)[None])[0]
HOW = ClusterConfig(pictures=400, cells=4000, rounds=4, joint_rounds=2)


def config(**given: Any) -> ImageTokenizerConfig:
    sizes: dict[str, Any] = {"n_embed": 128, "embed_dim": 24, "code_books": 2}
    fixed: dict[str, Any] = {"encoder": EncoderKind.patches, "patch_size": CELL, "ch_mult": [1], "resolution": SIDE}
    return ImageTokenizerConfig(**(fixed | sizes | given))


def pictures(count: int, seed: int) -> np.ndarray:
    """Red, green and blue squares of 5 px anywhere before a grey background."""
    rng = np.random.default_rng(seed)
    images = np.repeat(BACKGROUND[None], count, 0)
    for image in images:
        for channel in range(3):
            row, column = rng.integers(0, SIDE - 5, 2)
            image[row : row + 5, column : column + 5] = 230 * np.eye(3, dtype=np.uint8)[channel]
    return images


def of_pictures(images: np.ndarray, how: ClusterConfig = HOW) -> ImageTokenizer:
    cells = cells_of(images, np.arange(len(images)), EMPTY, CELL, how)
    return clustered(config(), cells, EMPTY, how)


@pytest.fixture(scope="module")
def tokenizer() -> ImageTokenizer:
    return of_pictures(pictures(400, 0))


def test_pictures_come_back(tokenizer: ImageTokenizer):
    images = pictures(40, 1)
    again = tokenizer.decode_images(tokenizer.encode_images(images)).astype(float)
    error = np.square(again - images).mean() / np.square(images - BACKGROUND.astype(float)).mean()
    assert error < 0.4


def test_the_background_has_code_0_everywhere(tokenizer: ImageTokenizer):
    codes = tokenizer.encode_images(BACKGROUND[None])
    np.testing.assert_array_equal(codes, np.zeros((1, 16)))
    np.testing.assert_array_equal(tokenizer.decode_images(codes)[0], BACKGROUND)


def test_a_cell_has_the_same_code_at_every_place(tokenizer: ImageTokenizer):
    images = np.repeat(BACKGROUND[None], 2, 0)
    images[0, 2:7, 1:6] = images[1, 2 + CELL : 7 + CELL, 1 + 2 * CELL : 6 + 2 * CELL] = (230, 0, 0)
    codes = tokenizer.encode_images(images).reshape(2, 4, 4)
    assert codes[0, 0, 0] == codes[1, 1, 2] != 0


def test_the_sum_that_is_nearest_counts_not_the_nearest_first_vector():
    quantizer = ResidualQuantizer(n_embed=4, embed_dim=1, parts=2)
    quantizer.vectors.data = torch.tensor([[[0.0], [1.0]], [[0.0], [0.6]]])
    codes = quantizer.encode(torch.tensor([0.6, 1.0, 1.6, 0.1]).view(4, 1, 1, 1))
    assert codes.flatten().tolist() == [1, 2, 3, 0], "digits of two values"
    decoded = quantizer.decode(codes)
    torch.testing.assert_close(decoded.flatten(), torch.tensor([0.6, 1.0, 1.6, 0.0]))


def test_books_are_compared_by_unit_vectors(tokenizer: ImageTokenizer):
    books = tokenizer.quantize.books()
    assert books.shape == (2, 64, 25)
    torch.testing.assert_close(books.norm(dim=-1), torch.ones(2, 64))
    vectors = dict(tokenizer.quantize.named_parameters())["vectors"][0]
    near, far = (vectors[1:] - vectors[0]).norm(dim=1).argsort()[[0, -1]] + 1
    assert (books[0, 0] - books[0, near]).norm() < (books[0, 0] - books[0, far]).norm()


def test_books_fitted_to_each_other_are_nearer():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3000, 6, generator=generator)
    quantizer = ResidualQuantizer(n_embed=32, embed_dim=6, parts=2).requires_grad_(False)
    left = vectors.clone()
    for i, book in enumerate(quantizer.vectors):
        book.copy_(k_means(left, 16, 8, torch.Generator().manual_seed(i)))
        left -= book[(left[:, None] - book).square().sum(-1).argmin(1)]

    def error() -> float:
        codes = quantizer.nearest(vectors)
        return float((vectors - quantizer.vectors[0][codes[:, 0]] - quantizer.vectors[1][codes[:, 1]]).square().mean())

    before = error()
    for _ in range(4):
        fit_jointly(quantizer.vectors, quantizer.nearest(vectors), vectors)
    assert error() < 0.97 * before
    assert quantizer.vectors[:, 0].abs().max() == 0


def test_the_same_pictures_give_the_same_tokenizer(tokenizer: ImageTokenizer):
    other = of_pictures(pictures(400, 0))
    for name, value in tokenizer.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0)


def test_it_is_saved_and_loaded(tokenizer: ImageTokenizer, tmp_path: Path):
    save_weights(tmp_path, "tokenizer", tokenizer.state_dict(), tokenizer.config, half=True)
    loaded, images = ImageTokenizer.load(tmp_path), pictures(8, 2)
    assert (loaded.encode_images(images) == tokenizer.encode_images(images)).mean() > 0.99


def test_too_few_cells_are_refused():
    with pytest.raises(DataError, match="different cells for 64 codes"):
        of_pictures(pictures(4, 0))


def test_few_cells_make_small_books():
    sizes = config()
    assert few_cells_fit(sizes, 10_000) == sizes
    few = few_cells_fit(sizes, 80)
    assert (few.n_embed, few.embed_dim) == (2 * 16, 24) and few_cells_fit(sizes, 8).embed_dim == 8
    with pytest.raises(DataError, match="7 different cells, clusters need at least 8: too little moves"):
        few_cells_fit(sizes, 7)


def test_only_so_many_cells_are_taken():
    images = pictures(400, 0)
    some = ClusterConfig(pictures=400, cells=50, plain_share=1)
    assert len(cells_of(images, np.arange(400), EMPTY, CELL, some)) == 50
    moved = cells_of(images, np.arange(400), EMPTY, CELL, HOW)
    assert len(moved.unique(dim=0)) == len(moved) > 400 and moved.shape[1] == 3 * CELL**2
    assert not len(cells_of(np.repeat(BACKGROUND[None], 9, 0), np.arange(9), EMPTY, CELL, HOW))


def test_traced_code_gives_the_same_pictures(tokenizer: ImageTokenizer):
    images, other = pictures(4, 3), of_pictures(pictures(400, 0))
    other.freeze()
    codes = other.encode_images(images)
    np.testing.assert_array_equal(codes, tokenizer.encode_images(images))
    np.testing.assert_array_equal(other.decode_images(codes), tokenizer.decode_images(codes))


def test_steps_of_training_are_refused(tokenizer: ImageTokenizer):
    with pytest.raises(InvalidValueError, match="made of clusters"):
        tokenizer(to_pixels(torch.from_numpy(pictures(1, 0))))
