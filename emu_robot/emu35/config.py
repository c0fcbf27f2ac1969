"""Settings of an official checkpoint: placement, generation, presets of each task. Imports nothing heavy."""

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_robot.shared.settings import check_ranges, number

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Task(StrEnum):
    """Tasks of the official model; members are named as they are typed in a configuration."""

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


_WORDS = {"guidance": 3.0, "text_temperature": 1.0, "text_top_k": 1024, "text_top_p": 0.9, "image_top_k": 10_240}
_PICTURE = _WORDS | {"image_top_k": 5120}
_PRESETS: dict[Task, dict[str, Any]] = {
    Task.t2i: _PICTURE | {"guidance": 5.0, "size": (55, 73)},
    Task.x2i: _PICTURE,
    Task.howto: _WORDS | {"text_temperature": 0.7, "text_top_k": 200, "text_top_p": 0.8},
    Task.story: _WORDS,
    Task.explore: _WORDS,
    Task.vla: _WORDS,
}
"""The official settings of each task; those for single pictures belong to Emu3.5-Image."""
_AREAS = {Task.t2i: 1024 * 1024, Task.x2i: 1024 * 1024}
_AREA = 720 * 720


def known_task(task: str) -> Task:
    """The task of this name. Raises `UnknownNameError` for a task that the official model does not know."""
    if task not in set(Task):
        raise UnknownNameError("task", task, [known.value for known in Task])
    return Task(task)


@dataclass(frozen=True, kw_only=True)
class PlacementConfig:
    """Place and form of a model's weights."""

    dtype: DType = DType.bfloat16
    """Number format of the weights."""
    quantize: Quantize = Quantize.none
    """How the blocks' matrices are stored; embeddings and head stay as they are."""
    device: str = "auto"
    """auto (every GPU, then main memory; main memory alone without a GPU), cpu, cuda or cuda:N."""
    memory: dict[str, float] = field(default_factory=dict)
    """Device -> memory that may be used, at least 0 [GiB]; empty: all free memory."""
    reserve: float = number(4.0, 0)
    """Memory of each device left for activations, mainly the vision tokenizer's [GiB]."""

    def __post_init__(self) -> None:
        check_ranges(self, "placement")
        if not all(0 <= gib < float("inf") for gib in self.memory.values()):
            raise InvalidValueError(f"placement.memory is {self.memory}, must be finite and not negative")


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How an answer is generated. None takes the task's preset, see docs/world_model.md."""

    guidance: float | None = number(None, 1, 1000)
    """Scale of classifier-free guidance of picture codes; 1 turns it off and halves the memory for keys and values."""
    size: tuple[int, int] | None = None
    """Height and width of the pictures in codes; 0,0 lets the model choose with the first one. None: the task's preset,
    else the last input picture's size, else the model's choice."""
    max_images: int | None = number(None, 1)
    """Most pictures of an answer; None: no bound but `max_ids`."""
    max_ids: int = number(16_384, 2, 1_000_000)
    """Most ids of prompt and answer together. The model's placement reserves memory for their keys and values."""
    text_temperature: float | None = number(None, 0, 1000)
    """Temperature of words; 0 is greedy."""
    text_top_k: int | None = number(None, 0)
    """Likeliest words that are drawn from; 0: all."""
    text_top_p: float | None = number(None, above=0, high=1)
    """Share of the probability in (0, 1]; the likeliest words that make it up are drawn from."""
    image_temperature: float = number(1.0, 0, 1000)
    """Temperature of picture codes; 0 is greedy."""
    image_top_k: int | None = number(None, 0)
    """Likeliest codes that are drawn from; 0: all."""
    seed: int = number(0, 0, 2**63 - 1)
    """Seed of an answer's random numbers."""

    def __post_init__(self) -> None:
        check_ranges(self, "generation")
        size = self.size
        if size is not None and (len(size) != 2 or (tuple(size) != (0, 0) and not 1 <= min(size) <= max(size) <= 4096)):
            raise InvalidValueError(f"generation.size is {size}, must be height,width in 1..4096, or 0,0")

    def for_task(self, task: str) -> "GenerationConfig":
        """These settings, each None replaced by the task's preset. Raises `UnknownNameError` for an unknown task."""
        preset = _PRESETS[known_task(task)].items()
        return replace(self, **{name: value for name, value in preset if getattr(self, name) is None})

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        idle = (
            {}
            if self.text_temperature != 0
            else dict.fromkeys(("text_top_k", "text_top_p"), "text_temperature=0 is greedy")
        )
        return idle | ({} if self.image_temperature else {"image_top_k": "image_temperature=0 is greedy"})


@dataclass(frozen=True, kw_only=True)
class WorldModelConfig:
    """Task, placement and generation of an official checkpoint."""

    task: Task = Task.vla
    """Task; it selects the prompt and the presets."""
    vision: str = ""
    """Folder or hub id of the vision tokenizer; empty: the checkpoint's folder `vision`, else the official one."""
    image_area: int | None = number(None, 1, 2**26)
    """Area that input pictures are resized to; None: 1024 x 1024 for t2i and x2i, else 720 x 720 [px]."""
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    """Place and form of the weights."""
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    """How an answer is generated."""

    def __post_init__(self) -> None:
        check_ranges(self)
        known_task(self.task)

    @property
    def area(self) -> int:
        """`image_area`, or the task's preset [px]."""
        return _AREAS.get(known_task(self.task), _AREA) if self.image_area is None else self.image_area


def is_official(name_or_path: str | Path) -> bool:
    """Whether a name means an official checkpoint: a folder with its config.json, or a hub id that is no path here."""
    path = Path(name_or_path)
    return (path / "config.json").is_file() or (not path.exists() and HUB_ID.fullmatch(str(name_or_path)) is not None)
