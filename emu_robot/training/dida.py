"""Stage dida: adapt an autoregressive planner to predict all codes of an image at once, without loss of its skills.

Every batch holds clean sequences and noisy copies of the images to predict (`dida_layout`). The loss is the cross
entropy of the true codes at noisy places, plus the weighted loss of the planner on the clean sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.models.attention import copies_mask
from emu_robot.models.transformer import CausalTransformer
from emu_robot.planner.decoding.noise_paths import ALPHA, C, NoisePath, PathName, make_noise_path, sample_times
from emu_robot.planner.planner import Planner
from emu_robot.shared.settings import check_ranges, number
from emu_robot.training.dida_layout import two_copies
from emu_robot.training.image_names import ImageNames, load_names, naming_error, with_names
from emu_robot.training.loop import LoopConfig, LossFn, check_loop, fit, select_device, step_rng
from emu_robot.training.losses import NearCodes, near_digits
from emu_robot.training.planner_config import SequenceConfig
from emu_robot.training.planner_data import PlanQueries
from emu_robot.training.self_distillation import draw_steps
from emu_robot.training.sequence_loss import sequence_loss
from emu_robot.training.sequence_sampler import SequenceSampler, nonce_names, question_writer, shifted_images
from emu_robot.training.set_check import check_set


def _loop() -> LoopConfig:
    return LoopConfig(steps=2000, batch_size=16, lr=5e-4, beta2=0.98, warmup_steps=100, weight_decay=0.05, threads=1)


@dataclass(frozen=True, kw_only=True)
class DidaTraining:
    """Settings of the adaptation of a planner, independent of the data."""

    path: PathName = PathName.metric
    """Path from codes to noise."""
    alpha: float = number(ALPHA, above=0, high=20)
    """Delay with which the metric path prefers near codes."""
    c: float = number(C, above=0, high=1e6)
    """Strength with which the metric path prefers near codes."""
    clean_weight: float = number(0.5, 0)
    """Weight of the planner's loss on the clean sequence; the loss of the noisy images has weight 1."""
    drawn_images: int = number(8000, 1)
    """Number of subgoals that the unadapted planner draws beforehand, kept in out/dida."""
    drawn_share: float = number(0.5, 0, 1)
    """Share of sequences with such a subgoal (self-distillation); the others are true."""
    holdout: float = number(0.02, 0, below=1)
    """Share of the episodes that is left out of the training."""
    sequences: SequenceConfig = field(default_factory=SequenceConfig)
    """Choice of sequences."""
    loop: LoopConfig = field(default_factory=_loop)
    """Optimisation."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        idle = {
            "loop.channels_last": "a transformer has no channels",
            "loop.eval_every": "stage dida evaluates nothing",
        }
        return idle if self.drawn_share else idle | {"drawn_images": "drawn_share=0 shows none"}


@dataclass(frozen=True, kw_only=True)
class DidaTrainConfig(DidaTraining):
    """Settings of stage dida."""

    data: Path = Path("outputs/data/train")
    """Replay buffer with codes of the planner's camera."""
    out: Path = Path("outputs/train")
    """Run folder: checkpoints and metrics, in its folder `dida`."""
    weights: Path = Path("outputs/weights/mini")
    """Folder with the autoregressive planner, which the adapted one replaces."""


def train(config: DidaTrainConfig) -> Path:
    """Run the stage, or resume an interrupted run. Returns the weights folder with the adapted planner."""
    check_loop(config.loop, config.out / "dida")
    torch.manual_seed(config.loop.seed)
    planner = Planner.load(config.weights)
    buffer = ReplayBuffer.open(config.data)
    check_set(buffer, [planner.config.camera], planner.images.config.resolution, config.holdout)
    queries = PlanQueries.load(buffer, planner.config.camera, config.weights)
    shifted = shifted_images(config.weights, buffer, planner.config.camera, config.sequences, config.loop)
    form, settings = planner.interleaver, config.sequences
    asked = question_writer(buffer, queries, form, settings, config.holdout)
    things = load_names(buffer, planner.config.camera, settings.naming_weight)
    model, planned = with_names(planner.model.requires_grad_(True), planner.config, things)
    named = None if things is None else ImageNames(things, form)
    invented = nonce_names(buffer, settings)
    sequences = SequenceSampler(queries, form, settings, config.loop, config.holdout, shifted, asked, named, invented)
    if config.drawn_share:
        chosen = sequences.unfinished(np.random.default_rng(config.loop.seed), config.drawn_images)
        kept, share = config.out / "dida" / "drawn.npz", config.sequences.shift_share
        drawn = draw_steps(config.weights, queries, chosen, shifted, share, kept, config.loop.seed)
        sequences.mix_in(drawn, config.drawn_share)
    path = make_noise_path(config.path, planner.images.quantize.books(), config.alpha, config.c)
    sampler = DidaSampler(sequences, planner, path, config.loop.seed)
    books_PSD = planner.images.quantize.books().to(select_device(config.loop.device))
    near = near_digits(books_PSD, config.sequences.code_temperature, planner.interleaver.vocabulary.first_code)
    loss = dida_loss(near, config.clean_weight, settings.naming_weight)
    adapted = fit(model, sampler, loss, config.loop, config.out, "dida", settings=config)
    assert isinstance(adapted, CausalTransformer)
    planned = replace(planned, dida_path=config.path.value, dida_alpha=config.alpha, dida_c=config.c)
    if settings.wordless_share == 0:
        planned = replace(planned, image_guidance=1.0)
    Planner(planned, adapted, planner.text, planner.images).save(config.weights)
    return config.weights


class DidaSampler:
    """step -> batch: ids, positions, references (B, S); last (B, S) and copy (S,), see `copies_mask`; places (J n,)
    that read noisy codes, these codes and code_weights (B, J n); the clean sequence's targets, weights and names.
    """

    def __init__(self, sequences: SequenceSampler, planner: Planner, path: NoisePath, seed: int) -> None:
        self._sequences, self._path, self._seed = sequences, path, seed
        self._vocabulary, template = planner.interleaver.vocabulary, planner.interleaver.template
        self._block = 1 + len(template)
        self._inside = torch.tensor([i for i, token in enumerate(template, 1) if token is None])

    def __call__(self, step: int) -> dict[str, Tensor]:
        rows = self._sequences.sequences(step)
        _batch, length = rows.ids.shape
        shape = (self._vocabulary.boi, self._block, rows.seen)
        layout = two_copies(rows.inputs, rows.positions, rows.references, *shape)
        generator = torch.Generator().manual_seed(int(step_rng(self._seed, step, stream=3).integers(2**62)))
        ids, present_BJ = torch.from_numpy(layout.ids), torch.from_numpy(layout.present)
        starts_J = length + self._block * torch.arange(present_BJ.shape[1])
        places_P = (starts_J[:, None] + self._inside).flatten()
        clean = two_copies(rows.ids, rows.positions, rows.references, *shape)
        codes_BP = torch.from_numpy(clean.ids)[:, places_P] - self._vocabulary.first_code
        images = codes_BP.view(-1, len(self._inside))
        noisy = self._path.corrupt(images, sample_times(len(images), generator), generator).view_as(codes_BP)
        ids[:, places_P] = torch.where(
            noisy < self._vocabulary.n_codes, noisy + self._vocabulary.first_code, self._vocabulary.pad
        )
        return {
            "ids": ids,
            "positions": torch.from_numpy(layout.positions),
            "references": torch.from_numpy(layout.references),
            "last": torch.from_numpy(layout.last),
            "copy": torch.from_numpy(layout.copy),
            "places": places_P - 1,
            "codes": codes_BP + self._vocabulary.first_code,
            "code_weights": present_BJ.repeat_interleave(len(self._inside), 1).float(),
            "targets": torch.from_numpy(rows.ids[:, 1:].copy()),
            "weights": torch.from_numpy(rows.weights[:, 1:].copy()),
        } | self._sequences.named(rows)


def dida_loss(near: Sequence[NearCodes], clean_weight: float, naming_weight: float = 0.0) -> LossFn:
    """The stage's loss function for `fit`. See `planner_loss` for `near` and `naming_weight`."""

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float | Tensor]]:
        assert isinstance(model, CausalTransformer)
        references_BS = batch["references"]
        mask = copies_mask(batch["last"], batch["copy"])
        states: list[Tensor] | None = [] if naming_weight else None
        hidden_BSD = model.model(
            batch["ids"], batch["positions"], references_BL=references_BS, mask=mask, states=states
        )

        def error(places: Tensor | slice, targets: Tensor, weights: Tensor) -> Tensor:
            asked = weights > 0
            references, targets = references_BS[:, places][asked], targets[asked]
            return sequence_loss(model, hidden_BSD[:, places][asked], targets, references, weights[asked], near)

        noisy = error(batch["places"], batch["codes"], batch["code_weights"])
        clean = error(slice(batch["targets"].shape[1]), batch["targets"], batch["weights"])
        metrics: dict[str, float | Tensor] = {"noisy": noisy, "clean": clean}
        if states is not None:
            metrics["naming"] = naming_error(model, states, batch["named_places"], batch["named"])
        return noisy + clean_weight * (clean + naming_weight * metrics.get("naming", 0.0)), metrics

    return loss
