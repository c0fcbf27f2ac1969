"""What an image tokenizer keeps of pictures, and of their changes. The planner cannot plan what it loses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from emu_robot.core import Image
from emu_robot.data.mapped_images import Images, ImageSource
from emu_robot.evaluation.tokenizer_quality import psnr
from emu_robot.shared.files import replacing
from emu_robot.tokenizers.image import ImageTokenizer

CHANGED = 20
"""Least difference of a colour, of 255, for a pixel that counts as changed."""
PICTURED = 4
"""Number of changes on a picture."""

type Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a tokenizer keeps."""

    pictures: int
    """Number of pictures."""
    median_db: float
    """Median of the PSNR of the reconstructions [dB]."""
    p10_db: float
    """10th percentile of the PSNR [dB]."""
    changes: int
    """Number of pairs of a subtask's first picture and its keyframe that differ."""
    change: float | None
    """Median over the pairs of `change_kept`, at most 1; None without a pair."""

    def __str__(self) -> str:
        """For instance "PSNR median 9.1 dB, 10% below 7.9 dB (n=200); 3% of a change kept (n=40)"."""
        change = "no picture changes" if self.change is None else f"{self.change:.0%} of a change kept"
        return (
            f"PSNR median {self.median_db:.1f} dB, 10% below {self.p10_db:.1f} dB (n={self.pictures}); "
            f"{change} (n={self.changes})"
        )


def kept(tokenizer: ImageTokenizer, images: ImageSource, rows: Ints, pairs: Ints) -> Kept:
    """Measure a tokenizer on the image rows (M,) and on pairs of rows (P, 2), each a picture and a later one."""
    values = [psnr(true, again) for true, again in _reconstructed(tokenizer, images, rows)]
    changes = []
    for (now, now_again), (later, later_again) in zip(
        *(_reconstructed(tokenizer, images, column) for column in pairs.T), strict=True
    ):
        share = change_kept((now, later), (now_again, later_again))
        changes += [] if share is None else [share]
    low, median = np.percentile(values, [10, 50]).tolist()
    return Kept(
        pictures=len(rows),
        median_db=median,
        p10_db=low,
        changes=len(changes),
        change=float(np.median(changes)) if changes else None,
    )


def change_kept(true: tuple[Image, Image], again: tuple[Image, Image]) -> float | None:
    """Share of a change between two pictures that is left in their reconstructions; None if no pixel changes.

    It is 1 - |D' - D|^2 / |D|^2 over the pixels that change by at least `CHANGED`, with D the true difference there and
    D' that of the reconstructions: 1 if the change is all there, 0 if nothing is left, negative for a wrong change.
    """
    difference, left = (later.astype(np.float64) - now for now, later in (true, again))
    changed = np.abs(difference).max(-1) >= CHANGED
    if not changed.any():
        return None
    lost = np.square(left[changed] - difference[changed]).sum()
    return float(1 - lost / np.square(difference[changed]).sum())


def _reconstructed(tokenizer: ImageTokenizer, images: ImageSource, rows: Ints) -> Iterator[tuple[Image, Image]]:
    """Every picture and its reconstruction."""
    for i in range(0, len(rows), 64):
        shown = images[rows[i : i + 64]]
        yield from zip(shown, tokenizer.decode_images(tokenizer.encode_images(shown)), strict=True)


def draw_reconstructions(
    path: Path, images: ImageSource, rows: Ints, pairs: Ints, tokenizers: Sequence[ImageTokenizer]
) -> Path:
    """Write a picture: above, some pairs of pictures side by side (single pictures without pairs); below, a row of
    their reconstructions for each tokenizer."""
    some = pairs if len(pairs) else rows[:, None]
    shown = some[np.unique(np.linspace(0, len(some) - 1, 2 * PICTURED // some.shape[1]).astype(int))].ravel()
    lines: list[Images] = [images[shown]]
    lines += [np.stack([again for _true, again in _reconstructed(one, images, shown)]) for one in tokenizers]
    picture = np.concatenate([np.concatenate(list(line), 1) for line in lines])
    with replacing(path) as partial:
        PillowImage.fromarray(picture).save(partial, "PNG")
    return path
