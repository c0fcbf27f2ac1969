"""How well do clusters of patches code pictures, without any training of a network?

    emu-robot collect experiment=tabletop2_plans n=12000 out=outputs/data/patches
    emu-robot collect experiment=tabletop2_plans n=150 split=dev seed=9000000 instructions=1 \\
      out=outputs/data/patches_dev
    python benchmarks/patch_codes.py outputs/data/patches outputs/data/patches_dev [WEIGHTS ...]

Each cell of 16 px, less the background of the fixed camera, is projected on principal components and gets two codes:
its nearest of `CODES` cluster centres, and the nearest centre of what is left. Colour weighs more than brightness.
Places of objects are then compared between pictures of the second set and their reconstructions, also for the image
tokenizers of weights folders.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emu_robot.data.episode import read_facts
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.evaluation.centroids import position_error
from emu_robot.evaluation.named_objects import LOST_RADIUS
from emu_robot.evaluation.tokenizer_quality import psnr
from emu_robot.models.weights import resolve_weights
from emu_robot.tokenizers.image import ImageTokenizer

CELL, CODES, COMPONENTS, COLOUR = 16, 4096, 160, 3.0
PICTURES, CELLS, ROUNDS, BLOCK = 20_000, 150_000, 10, 8192
PLAIN_SHARE = 0.15
"""Share of the cells without a clear colour that are clustered: arm, drawer, shadows."""
SHAPES = ("cube", "can", "brick", "post")
SPREAD = np.diag([1.0, COLOUR, COLOUR]) @ np.array([[1 / 3, 1 / 3, 1 / 3], [1, -1, 0], [0.5, 0.5, -1]])

type Pictures = NDArray[np.uint8]


class PatchCodes:
    """Two codes for each cell."""

    def __init__(self, images: Pictures) -> None:
        """images: (M, H, W, 3), of which some are clustered."""
        self._rng = np.random.default_rng(0)
        rows = np.linspace(0, len(images) - 1, min(PICTURES, len(images))).astype(int)
        self._background = np.median(images[rows[:: max(len(rows) // 301, 1)]], 0)
        blocks = (self._informative(images[rows[i : i + 300]]) for i in range(0, len(rows), 300))
        cells = np.unique(np.concatenate(list(blocks)), axis=0)
        cells = torch.from_numpy(self._rng.permutation(cells)[:CELLS])
        self._axes = torch.linalg.eigh(cells.T @ cells)[1][:, -COMPONENTS:]
        found = cells @ self._axes
        self._first = cluster(found)
        self._second = cluster(found - self._first[nearest(found, self._first)])
        print(f"{len(cells)} different cells clustered")

    def reconstruct(self, images: Pictures) -> Pictures:
        """(B, H, W, 3) after coding."""
        found = torch.from_numpy(self._cells(images)) @ self._axes
        coarse = self._first[nearest(found, self._first)]
        coded = (coarse + self._second[nearest(found - coarse, self._second)]) @ self._axes.T
        side = images.shape[1] // CELL
        grid = coded.numpy().reshape(len(images), side, side, CELL, CELL, 3).transpose(0, 1, 3, 2, 4, 5)
        difference = grid.reshape(images.shape) @ np.linalg.inv(SPREAD).T
        return np.clip(np.round(255 * difference + self._background), 0, 255).astype(np.uint8)

    def _cells(self, images: Pictures) -> NDArray[np.float32]:
        """(B cells, CELL CELL 3): brightness and colours less those of the background."""
        difference = ((images - self._background) / 255 @ SPREAD.T).astype(np.float32)
        side = images.shape[1] // CELL
        grid = difference.reshape(len(images), side, CELL, side, CELL, 3).transpose(0, 1, 3, 2, 4, 5)
        return grid.reshape(-1, CELL * CELL * 3)

    def _informative(self, images: Pictures) -> NDArray[np.float32]:
        """Cells that differ from the background; of those without a clear colour only some."""
        cells = self._cells(images)
        coloured = np.abs(cells.reshape(len(cells), -1, 3)[..., 1:]).max((1, 2)) > 0.3 * COLOUR
        kept = coloured | (self._rng.random(len(cells)) < PLAIN_SHARE)
        return cells[kept & (np.abs(cells).max(1) > 0.05)]


def nearest(found_ND: Tensor, centres_KD: Tensor) -> Tensor:
    """(N,) the nearest centre of each."""
    length_K = centres_KD.square().sum(1)
    return torch.cat([(2 * block @ centres_KD.T - length_K).argmax(1) for block in found_ND.split(BLOCK)])


def cluster(found_ND: Tensor) -> Tensor:
    """(CODES, D) centres by k-means, the first of them at 0; idle ones move to a random vector, far ones first."""
    generator = torch.Generator().manual_seed(1)
    centres = found_ND[torch.randperm(len(found_ND), generator=generator)[:CODES]].clone()
    centres[0] = 0
    for _ in range(ROUNDS):
        near = nearest(found_ND, centres)
        count = torch.bincount(near, minlength=CODES)
        total = torch.zeros_like(centres).index_add_(0, near, found_ND)
        misfit = (found_ND - centres[near]).square().sum(1)
        used = count > 0
        centres[used] = total[used] / count[used, None]
        if not used.all():
            centres[~used] = found_ND[torch.multinomial(misfit + 1e-9, int((~used).sum()), generator=generator)]
    return centres


def report(name: str, images: Pictures, again: Pictures, places: list[dict[str, tuple[float, float]]]) -> None:
    """Print how far objects move, and how many are lost."""
    found = [
        position_error(image, other, uv, LOST_RADIUS)
        for image, other, there in zip(images, again, places, strict=True)
        for uv in there.values()
    ]
    errors = np.array([error for error in found if error is not None])
    decibel = np.mean([psnr(image, other) for image, other in zip(images, again, strict=True)])
    lost = (errors >= LOST_RADIUS).mean()
    print(f"{name}: median {np.median(errors):.2f} px, lost {lost:.1%} of {len(errors)}, PSNR {decibel:.1f} dB")


def main() -> None:
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    train, test = (ReplayBuffer.open(Path(folder)) for folder in sys.argv[1:3])
    images = test.images("front")[:]
    facts = [of for meta in test.metadata for of in read_facts(meta["facts"])]
    places = [
        {name: (one.u, one.v) for name, one in of.items() if one.is_visible and name.split()[-1] in SHAPES}
        for of in facts
    ]
    begun = time.process_time()
    codes = PatchCodes(train.images("front")[:])
    report(f"clusters ({time.process_time() - begun:.0f} s of CPU)", images, codes.reconstruct(images), places)
    for weights in sys.argv[3:]:
        tokenizer = ImageTokenizer.load(resolve_weights(weights))
        report(weights, images, tokenizer.decode_images(tokenizer.encode_images(images)), places)


if __name__ == "__main__":
    main()
