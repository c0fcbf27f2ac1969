"""How pictures of a replay buffer survive the image tokenizer: what it blurs, the planner cannot plan."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.evaluation.tokenizer_quality import psnr
from emu_robot.models.weights import resolve_weights
from emu_robot.shared.files import replace_json
from emu_robot.shared.settings import check_ranges, number
from emu_robot.tokenizers.image import ImageTokenizer

PICTURED = 8
FIGURES, PICTURE = "reconstructions.json", "reconstructions.png"


@dataclass(kw_only=True)
class ReconstructionsConfig:
    """Settings of a look at reconstructed pictures."""

    buffer: Path = Path("outputs/data/prepared")
    """Replay buffer."""
    camera: str = "front"
    """The camera whose pictures are taken."""
    weights: str = "mini"
    """Released name or folder with the image tokenizer."""
    n: int = number(200, 1)
    """Pictures, spread over the buffer."""
    out: Path = Path("outputs/reconstructions")
    """Folder of reconstructions.png and reconstructions.json."""

    def __post_init__(self) -> None:
        check_ranges(self)


def reconstructions(config: ReconstructionsConfig) -> float:
    """Print and write median and 10th percentile of the PSNR [dB], and some pairs as a picture; returns the median."""
    buffer, tokenizer = ReplayBuffer.open(config.buffer), ImageTokenizer.load(resolve_weights(config.weights))
    images = buffer.images(config.camera)
    rows = np.unique(np.linspace(0, len(images) - 1, config.n).astype(int))
    shown = images[rows]
    again = tokenizer.decode_images(tokenizer.encode_images(shown))
    values = [psnr(one, other) for one, other in zip(shown, again, strict=True)]
    pairs = np.linspace(0, len(rows) - 1, min(PICTURED, len(rows))).astype(int)
    picture = np.concatenate([np.concatenate(list(part[pairs]), 1) for part in (shown, again)])
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / PICTURE
    PillowImage.fromarray(picture).save(path)
    low, median = np.percentile(values, [10, 50]).tolist()
    replace_json(config.out / FIGURES, {"camera": config.camera, "n": len(rows), "median_db": median, "p10_db": low})
    print(f"reconstructions of {config.camera}: PSNR median {median:.1f} dB, 10% below {low:.1f} dB; look at {path}")
    return median
