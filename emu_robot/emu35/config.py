"""Settings of an official checkpoint: where it lives, how it answers. Imports nothing heavy."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from emu_robot.errors import InvalidValueError

DTYPES = ("bfloat16", "float16", "float32")


class Quantize(StrEnum):
    """How the blocks' matrices are stored; embeddings and head stay as they are.

    Members are named as they are typed in a configuration.
    """

    none = "none"
    int8 = "int8"
    nf4 = "nf4"


@dataclass(kw_only=True)
class PlacementConfig:
    """dtype: bfloat16 | float16 | float32. quantize: none | int8 | nf4.

    device: auto (every GPU, then main memory; main memory alone without a GPU), cpu, cuda or cuda:N.
    memory: GiB that may be used of each device, by name; what is free, when empty.
    reserve: GiB of each device left for keys, values and activations.
    """

    dtype: str = "bfloat16"
    quantize: Quantize = Quantize.none
    device: str = "auto"
    memory: dict[str, float] = field(default_factory=dict)
    reserve: float = 4.0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InvalidValueError(f"dtype is {self.dtype!r}, must be one of {', '.join(DTYPES)}")
        if self.reserve < 0 or min(self.memory.values(), default=0) < 0:
            raise InvalidValueError(f"reserve and memory must not be negative, got {self.reserve} and {self.memory}")


@dataclass(kw_only=True)
class GenerationConfig:
    """guidance: s, 1 switches the second stream off; official: 3 for interleaved answers, 2 for single images.

    size: (h, w) of the images in codes; None lets the model write the first one's. max_images, max_ids end an answer
    that does not end by itself. temperatures of 0 are greedy; top_k of 0 and top_p of 1 keep all ids.
    """

    guidance: float = 3.0
    size: tuple[int, int] | None = None
    max_images: int = 8
    max_ids: int = 32_768
    text_temperature: float = 1.0
    text_top_k: int = 1024
    text_top_p: float = 0.9
    image_temperature: float = 1.0
    image_top_k: int = 10_240
    seed: int = 0

    def __post_init__(self) -> None:
        if self.guidance < 1 or self.max_images < 1 or self.max_ids < 1:
            raise InvalidValueError(f"guidance, max_images and max_ids must be at least 1, got {self}")
        if self.size is not None and min(self.size) < 1:
            raise InvalidValueError(f"size is {self.size}, both sides must be positive")


@dataclass(kw_only=True)
class WorldModelConfig:
    """task: t2i | x2i | howto | story | explore | vla. vision: folder or hub id of the vision tokenizer; empty: the
    folder `vision` of a local checkpoint, else the official one. image_area: pixels that a picture is resized to."""

    task: str = "vla"
    vision: str = ""
    image_area: int = 720 * 720
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)


def is_official(name_or_path: str | Path) -> bool:
    """Whether a name means an official checkpoint: a folder with its config.json, or a hub id that is no path."""
    path = Path(name_or_path)
    return (path / "config.json").is_file() or (not path.exists() and str(name_or_path).startswith("BAAI/"))
