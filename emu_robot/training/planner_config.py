"""Settings of stage planner. Knows neither data nor models."""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path

from emu_robot.errors import InvalidValueError
from emu_robot.planner.planner import PlannerSettings
from emu_robot.shared.settings import check_ranges, number
from emu_robot.training.loop import LoopConfig
from emu_robot.training.lora import LoraSettings
from emu_robot.training.warm_start import check_one_start, idle_with_start


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """Choice of sequences, and weights of their parts."""

    step_odds: list[float] = field(default_factory=lambda: [0.85, 0.15])
    """Odds of a batch with up to 1, 2, ... steps per sequence; at least 0, not all 0."""
    complete_share: float = number(0.12, 0, 1)
    """Share of sequences that show a finished task and must end at once."""
    boundary_share: float = number(0.7, 0, 1)
    """Share of sequences that start at a start or keyframe, where plans are usually made; the rest starts at any stored
    image. With `complete_share` at most 1."""
    family_weights: dict[str, float] = field(default_factory=dict)
    """Relative probability of the moments of tasks of a family; 1 for a family that is not named. Some have fewer
    moments in a set than others, or are harder to learn."""
    text_weight: float = number(3.0, 0)
    """Weight of a word as a target."""
    image_weight: float = number(1.0, 0)
    """Weight of a code as a target."""
    changed_weight: float = number(1.5, 0)
    """Additional factor for a code that differs from the image before."""
    unchanged_share: float = number(1.0, above=0, high=1)
    """Share of the codes equal to the image before that are targets, each with as much more weight. Most codes are
    such, are easy, and take as long to compute as others."""
    input_noise: float = number(0.03, 0, 1)
    """Share of input codes that are replaced by the code of another image at the same place."""
    shift_share: float = number(0.75, 0, 1)
    """Share of sequences with all images shifted by the same offset, see `ShiftedImages`."""
    wordless_share: float = number(0.1, 0, 1)
    """Share of sequences without words, which guidance needs; with 0 the planner gets `image_guidance` 1."""
    question_share: float = number(0.0, 0, below=1)
    """Share of sequences that ask about pictures in words, from a set's facts, and show no plan."""
    nonce_share: float = number(0.0, 0, 1)
    """Share of the sequences in which names that instruction and subtasks have in common are replaced by invented ones,
    see `NonceNames`. The facts of a set say which words are names."""
    naming_weight: float = number(0.0, 0)
    """Weight of the loss of naming, halfway through the planner, what every cell of an image shows, from a set's facts;
    with 0 the planner forgets the names that it knows."""
    code_temperature: float = number(0.02, 0)
    """Temperature of the target of a code that changes, softmax(-squared distance / temperature) over nearest codes; 0:
    the one code. Many codes look alike, and chance decides between them."""

    def __post_init__(self) -> None:
        check_ranges(self, "sequences")
        if not self.step_odds or min(self.step_odds) < 0 or sum(self.step_odds) == 0:
            raise InvalidValueError(f"sequences.step_odds is {self.step_odds}, must be odds of 1, 2, ... steps")
        if any(not 0 <= weight < math.inf for weight in self.family_weights.values()):
            raise InvalidValueError(f"sequences.family_weights is {self.family_weights}, must be finite and at least 0")
        if self.complete_share + self.boundary_share > 1:
            raise InvalidValueError("sequences.complete_share and sequences.boundary_share add up to more than 1")


def _loop() -> LoopConfig:
    return LoopConfig(
        steps=6000, batch_size=32, lr=1e-3, beta2=0.98, warmup_steps=200, weight_decay=0.05, threads=1, compile=True
    )


@dataclass(frozen=True, kw_only=True)
class PlannerTraining:
    """Settings of the training of a planner, independent of the data."""

    lora: LoraSettings = field(default_factory=LoraSettings)
    """Adapters that are trained on the started planner in place of all weights."""
    holdout: float = number(0.02, 0, below=1)
    """Share of the episodes kept for the metrics."""
    eval_queries: int = number(96, 1)
    """Number of plans that the metrics ask for; four times as many at the end."""
    sequences: SequenceConfig = field(default_factory=SequenceConfig)
    """Choice of sequences."""
    loop: LoopConfig = field(default_factory=_loop)
    """Optimisation."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        return {"loop.channels_last": "a transformer has no channels"}


@dataclass(frozen=True, kw_only=True)
class PlannerTrainConfig(PlannerTraining):
    """Settings of stage planner. The tokenizers determine the vocabulary and the number of codes per image."""

    data: Path = Path("outputs/data/train")
    """Replay buffer with codes of the planner's camera."""
    out: Path = Path("outputs/train")
    """Run folder: checkpoints and metrics, in its folder `planner`."""
    weights: Path = Path("outputs/weights/mini")
    """Folder with both tokenizers, which receives the planner."""
    start: str = ""
    """Released name or weights folder with a planner to start from. It fixes the planner's settings but for a longer
    `planner.memory`. A new `weights` folder becomes its copy; one with other tokenizers keeps them, and the planner's
    embeddings are carried over to their ids. Empty: untrained."""
    planner: PlannerSettings = field(default_factory=PlannerSettings)
    """Settings of a planner that starts untrained."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_start(self.start, self.loop)
        if (most := len(self.sequences.step_odds)) <= self.planner.memory:
            raise InvalidValueError(
                f"planner.memory={self.planner.memory} needs sequences.step_odds for {self.planner.memory + 1} steps, "
                f"not {most}"
            )
        if self.lora.rank and not self.start:
            raise InvalidValueError(f"lora.rank={self.lora.rank} needs start=, the weights that adapters adapt")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        idle = super().without_effect()
        for setting in fields(self.planner):
            if setting.name != "memory":
                idle |= idle_with_start(f"planner.{setting.name}", self.start)
        if self.sequences.wordless_share == 0:
            idle.setdefault("planner.image_guidance", "sequences.wordless_share=0 trains without guidance")
        return idle
