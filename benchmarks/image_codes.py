"""How well do the codes of image tokenizers show where objects are? On pictures laid out without motion.

    emu-robot collect experiment=tabletop2_plans n=150 split=dev seed=9000000 instructions=1 \\
      out=outputs/data/patches_dev
    python benchmarks/image_codes.py outputs/data/patches_dev WEIGHTS [WEIGHTS ...]

Compares the places of objects between the set's pictures and their reconstructions by the image tokenizer of each
weights folder (or released name).
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emu_robot.data.episode import read_facts
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.evaluation.centroids import position_error
from emu_robot.evaluation.named_objects import LOST_RADIUS
from emu_robot.evaluation.tokenizer_quality import psnr
from emu_robot.models.weights import resolve_weights
from emu_robot.tokenizers.image import ImageTokenizer

SHAPES = ("cube", "can", "brick", "post")

type Pictures = NDArray[np.uint8]


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
    test = ReplayBuffer.open(Path(sys.argv[1]))
    images = test.images("front")[:]
    facts = [of for meta in test.metadata for of in read_facts(meta["facts"])]
    places = [
        {name: (one.u, one.v) for name, one in of.items() if one.is_visible and name.split()[-1] in SHAPES}
        for of in facts
    ]
    for weights in sys.argv[2:]:
        tokenizer = ImageTokenizer.load(resolve_weights(weights))
        report(weights, images, tokenizer.decode_images(tokenizer.encode_images(images)), places)


if __name__ == "__main__":
    main()
