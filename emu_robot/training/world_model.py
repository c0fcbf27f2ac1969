"""Stage world_model: fine-tune an official-format checkpoint on the plans of replay buffers, whole or by adapters.

A sequence is the official prompt with the present view, then for each step its words and the image at its completion.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.emu35.checkpoint import VISION_FILES, resolve_checkpoint, save_language_model
from emu_robot.emu35.config import Quantize, WorldModelConfig
from emu_robot.emu35.prompts import Grid, image_ids, task_prompt
from emu_robot.emu35.text import RANKS, VISION, Emu3Text
from emu_robot.emu35.world_model import WorldModel, load_world_model
from emu_robot.errors import ConfigError
from emu_robot.models.transformer import CausalTransformer
from emu_robot.shared.files import copy_file
from emu_robot.shared.settings import check_ranges, number
from emu_robot.training.loop import LoopConfig, check_loop, fit, step_rng
from emu_robot.training.lora import LoraSettings, add_adapters, merge_adapters
from emu_robot.training.losses import weighted_cross_entropy
from emu_robot.training.packing import pack
from emu_robot.training.planner_data import PlanQueries


@dataclass(frozen=True, kw_only=True)
class WorldModelTrainConfig:
    """Settings of stage world_model."""

    data: Path = Path("outputs/data/train")
    """Replay buffer to learn from; several become one by `emu-robot data merge`."""
    camera: str = "front"
    """Camera that the model sees."""
    weights: str = "BAAI/Emu3.5"
    """Official-format checkpoint to start from: a folder or a hub id."""
    out: Path = Path("outputs/train")
    """Run folder: checkpoints and metrics in its folder `world_model`, the tuned checkpoint in `weights`."""
    steps_per_plan: int = number(2, 1)
    """Most steps of a sequence."""
    visual_weight: float = number(0.5, 0)
    """Weight of an image's id as a target; that of a word is 1."""
    row_length: int = number(8192, 2)
    """Ids in a row; sequences are packed into rows."""
    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    """Task, size of the images and placement of the model."""
    lora: LoraSettings = field(default_factory=lambda: LoraSettings(rank=16))
    """Train adapters instead of every weight."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1000, batch_size=8, lr=1e-4, ema_decay=0.0))
    """How to optimise."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.model.placement.quantize is not Quantize.none:
            quantize = self.model.placement.quantize.value
            raise ConfigError(f"model.placement.quantize={quantize}: such weights cannot be trained, leave it at none")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        return {
            "model.generation": "stage world_model generates nothing",
            "loop.eval_every": "stage world_model evaluates nothing",
            "loop.channels_last": "a transformer has no channels",
        }


def train(config: WorldModelTrainConfig) -> Path:
    """Run the stage, resuming an interrupted run; return the folder with the tuned checkpoint."""
    check_loop(config.loop, config.out / "world_model")
    buffer = ReplayBuffer.open(config.data)  # checked before loading the model, which may take minutes
    buffer.images(config.camera)
    PlanQueries.load(buffer)
    torch.manual_seed(config.loop.seed)
    world = load_world_model(config.weights, config.model)
    sampler = WorldModelSampler(world, config)
    model = world.model
    if config.lora.rank == 0:
        model.requires_grad_(True)
    add_adapters(model, config.lora)
    tuned = fit(model, sampler, world_model_loss, config.loop, config.out, "world_model", settings=config)
    assert isinstance(tuned, CausalTransformer)
    merge_adapters(tuned)
    source, target = resolve_checkpoint(config.weights), config.out / "weights"
    save_language_model(target, tuned, source)
    for name in (RANKS, VISION, *(f"vision/{name}" for name in VISION_FILES if (source / "vision").is_dir())):
        copy_file(source / name, target / name)
    return target


class WorldModelSampler:
    """Step -> batch of packed ids, positions (B, L), mask (B, 1, L, L), targets and weights (B, L - 1).

    Images are encoded at their first use and kept as codes.
    """

    def __init__(self, world: WorldModel, config: WorldModelTrainConfig) -> None:
        self._world, self._config = world, config
        buffer = ReplayBuffer.open(config.data)
        self._images, self._queries = buffer.images(config.camera), PlanQueries.load(buffer)
        self._grids: dict[int, Grid] = {}

    def __call__(self, step: int) -> dict[str, Tensor]:
        rng = step_rng(self._config.loop.seed, step)
        chosen = rng.integers(len(self._queries), size=self._config.loop.batch_size)
        sequences = [self.sequence(query) for query in chosen.tolist()]
        rows = pack(sequences, self._config.row_length, self._world.text.ids.pad)
        arrays = {"ids": rows.ids[:, :-1], "positions": rows.positions[:, :-1], "mask": rows.mask[:, :, :-1, :-1]}
        arrays |= {"targets": rows.ids[:, 1:], "weights": rows.weights[:, 1:]}
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}

    def sequence(self, query: int) -> tuple[list[int], list[float]]:
        """Ids of one plan and the weight of each as a target; 0 for the prompt and ids that the format fixes."""
        text, queries, config = self._world.text, self._queries, self._config
        rows = queries.image_rows(query, config.steps_per_plan)
        grids = [self._grid(row) for row in rows]
        subtasks = queries.texts(query, config.steps_per_plan)
        ids = task_prompt(text, config.model.task, queries.instruction(query), grids[:1])
        weights = [0.0] * len(ids)
        for subtask, grid in zip(subtasks, grids[1:], strict=True):
            words, image = text.encode(subtask), image_ids(text, grid)
            ids += words + image
            weights += [1.0] * (len(words) + 1) + [self._weight(text, token) for token in image[1:]]
        if queries.is_last(query, len(subtasks)):
            ids += [text.ids.end_answer, text.ids.eos]
            weights += [1.0, 1.0]
        return ids, weights

    def _weight(self, text: Emu3Text, token: int) -> float:
        return self._config.visual_weight if token >= text.ids.first_code else 0.0

    def _grid(self, row: int) -> Grid:
        if row not in self._grids:
            self._grids[row] = self._world.encode(self._images[row], self._config.model.area)
        return self._grids[row]


def world_model_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float | Tensor]]:
    """The stage's loss function for `fit`."""
    assert isinstance(model, CausalTransformer)
    hidden = model.model(batch["ids"], batch["positions"], mask=batch["mask"])
    return weighted_cross_entropy(model.logits(hidden), batch["targets"], batch["weights"]), {}
