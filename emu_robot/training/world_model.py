"""Stage world_model: fine-tune an official-format checkpoint on the plans of replay buffers, whole or by adapters.

A sequence is the official prompt with the present view, then for each step its words and the image at its completion.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.emu35.checkpoint import resolve_checkpoint, save_language_model
from emu_robot.emu35.config import WorldModelConfig
from emu_robot.emu35.prompts import Grid, image_ids, task_prompt
from emu_robot.emu35.text import RANKS, VISION, Emu3Text
from emu_robot.emu35.world_model import WorldModel, load_world_model
from emu_robot.models.transformer import CausalTransformer
from emu_robot.training.loop import LoopConfig, fit, step_rng
from emu_robot.training.lora import LoraSettings, add_adapters, merge_adapters
from emu_robot.training.losses import weighted_cross_entropy
from emu_robot.training.packing import pack
from emu_robot.training.planner_data import PlanQueries


@dataclass(kw_only=True)
class WorldModelTrainConfig:
    """Settings of stage world_model.

    data: replay buffer (several become one by `emu-robot data merge`). camera: what the model is shown.
    weights: official-format checkpoint to start from, folder or hub id. out: run folder, the tuned checkpoint in its
    `weights`. steps_per_plan: most steps of a sequence. visual_weight: of an image's target against a word's.
    row_length: ids in a row; sequences are packed into rows. model: task, image area, placement.
    """

    data: Path = Path("outputs/data/train")
    camera: str = "front"
    weights: str = "BAAI/Emu3.5"
    out: Path = Path("outputs/train")
    steps_per_plan: int = 2
    visual_weight: float = 0.5
    row_length: int = 8192
    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    lora: LoraSettings = field(default_factory=lambda: LoraSettings(rank=16))
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1000, batch_size=8, lr=1e-4, ema_decay=0.0))


def train(config: WorldModelTrainConfig) -> Path:
    """Run the stage, resuming what was cut off; returns the folder with the tuned checkpoint."""
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
    for name in (RANKS, VISION):
        shutil.copyfile(source / name, target / name)
    if (source / "vision").is_dir():
        shutil.copytree(source / "vision", target / "vision", dirs_exist_ok=True)
    return target


class WorldModelSampler:
    """step -> batch of packed ids, positions (B, L), mask (B, 1, L, L), targets and weights (B, L - 1).

    Images are encoded when they are first drawn and kept as codes.
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
        """Ids of one plan and the weight of each as a target; the prompt and what the format fixes weigh nothing."""
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
            ids.append(text.ids.end_answer)
            weights.append(1.0)
        return ids, weights

    def _weight(self, text: Emu3Text, token: int) -> float:
        return self._config.visual_weight if token >= text.ids.first_code else 0.0

    def _grid(self, row: int) -> Grid:
        if row not in self._grids:
            self._grids[row] = self._world.encode(self._images[row], self._config.model.image_area)
        return self._grids[row]


def world_model_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float | Tensor]]:
    """The stage's loss function for `fit`."""
    assert isinstance(model, CausalTransformer)
    hidden = model.model(batch["ids"], batch["positions"], mask=batch["mask"])
    return weighted_cross_entropy(model.logits(hidden), batch["targets"], batch["weights"]), {}
