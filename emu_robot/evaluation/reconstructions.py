"""Quality of a replay buffer's pictures after the image tokenizer. The planner cannot plan details that it blurs."""

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


@dataclass(frozen=True, kw_only=True)
class ReconstructionsConfig:
    """Settings of a comparison of pictures with their reconstructions."""

    buffer: Path = Path("outputs/data/prepared")
    """Replay buffer with the pictures."""
    camera: str = "front"
    """Camera of the pictures."""
    weights: str = "mini"
    """Released name or folder with the image tokenizer."""
    n: int = number(200, 1)
    """Number of pictures, spread over the buffer."""
    out: Path = Path("outputs/reconstructions")
    """Folder of reconstructions.png and reconstructions.json."""

    def __post_init__(self) -> None:
        check_ranges(self)


def reconstructions(config: ReconstructionsConfig) -> float:
    """Print and write median and 10th percentile of the PSNR [dB], and some pairs as a picture. Returns the median."""
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
