"""Settings of an official checkpoint: where it lives, how it answers. Imports nothing heavy."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from emu_robot.errors import InvalidValueError
from emu_robot.shared.settings import check_ranges, number


class Task(StrEnum):
    """What the official model was taught to be asked; members are named as they are typed in a configuration."""

    t2i = "t2i"
    x2i = "x2i"
    howto = "howto"
    story = "story"
    explore = "explore"
    vla = "vla"


class DType(StrEnum):
    """Number formats of weights; members are named as they are typed in a configuration."""

    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"


class Quantize(StrEnum):
    """How the blocks' matrices are stored; embeddings and head stay as they are.

    Members are named as they are typed in a configuration.
    """

    none = "none"
    int8 = "int8"
    nf4 = "nf4"


@dataclass(frozen=True, kw_only=True)
class PlacementConfig:
    """Where a model's weights lie, and in which form."""

    dtype: DType = DType.bfloat16
    """Number format of the weights."""
    quantize: Quantize = Quantize.none
    """How the blocks' matrices are stored; embeddings and head stay as they are."""
    device: str = "auto"
    """auto (every GPU, then main memory; main memory alone without a GPU), cpu, cuda or cuda:N."""
    memory: dict[str, float] = field(default_factory=dict)
    """Memory that may be used of each device, by name [GiB], at least 0; what is free, when empty."""
    reserve: float = number(4.0, 0)
    """Memory of each device left for keys, values and activations [GiB]."""

    def __post_init__(self) -> None:
        check_ranges(self, "placement")
        if min(self.memory.values(), default=0) < 0:
            raise InvalidValueError(f"placement.memory is {self.memory}, must not be negative")


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How a model answers."""

    guidance: float = number(3.0, 1)
    """Scale of classifier-free guidance, 1 is without; official: 3 for interleaved answers, 2 for single images."""
    size: tuple[int, int] | None = None
    """Height and width of the images in codes, each at least 1; null lets the model write the first one's."""
    max_images: int = number(8, 1)
    """Images after which an answer ends."""
    max_ids: int = number(32_768, 1)
    """Ids of prompt and answer after which an answer ends."""
    text_temperature: float = number(1.0, 0)
    """Temperature of words; 0 is greedy."""
    text_top_k: int = number(1024, 0)
    """Only so many of the likeliest words stay; 0 keeps all."""
    text_top_p: float = number(0.9, above=0, high=1)
    """Only the likeliest words that make up this probability stay; 1 keeps all."""
    image_temperature: float = number(1.0, 0)
    """Temperature of codes; 0 is greedy."""
    image_top_k: int = number(10_240, 0)
    """Only so many of the likeliest codes stay; 0 keeps all."""
    seed: int = number(0, 0)
    """Seed of the answer."""

    def __post_init__(self) -> None:
        check_ranges(self, "generation")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise InvalidValueError(f"generation.size is {self.size}, must be a height and a width of at least 1")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        idle = (
            {} if self.text_temperature else dict.fromkeys(("text_top_k", "text_top_p"), "text_temperature=0 is greedy")
        )
        return idle | ({} if self.image_temperature else {"image_top_k": "image_temperature=0 is greedy"})


@dataclass(frozen=True, kw_only=True)
class WorldModelConfig:
    """How an official checkpoint is loaded and asked."""

    task: Task = Task.vla
    """What the model is asked for."""
    vision: str = ""
    """Folder or hub id of the vision tokenizer; empty: the folder `vision` of a local checkpoint, else the official
    one."""
    image_area: int = number(720 * 720, 1)
    """Area that a picture is resized to [px]."""
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    """Where the weights lie."""
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    """How the model answers."""

    def __post_init__(self) -> None:
        check_ranges(self)


def is_official(name_or_path: str | Path) -> bool:
    """Whether a name means an official checkpoint: a folder with its config.json, or a hub id that is no path."""
    path = Path(name_or_path)
    return (path / "config.json").is_file() or (not path.exists() and str(name_or_path).startswith("BAAI/"))
