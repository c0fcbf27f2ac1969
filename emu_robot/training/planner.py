"""Stage planner: next-token prediction on interleaved plans, from any moment of an episode."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emu_robot.core import Floats32
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import InvalidValueError
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.weights import MANIFEST, copy_weights, resolve_weights, stage_hash
from emu_robot.planner.planner import Planner, PlannerConfig, interleaver
from emu_robot.shared.words import same_words
from emu_robot.tokenizers.image import ImageTokenizer
from emu_robot.tokenizers.interleave import Codes, Interleaver
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.training.loop import LoopConfig, LossFn, check_loop, fit, select_device, step_rng
from emu_robot.training.lora import add_adapters, merge_adapters
from emu_robot.training.losses import NearCodes, near_codes, weighted_cross_entropy
from emu_robot.training.planner_config import PlannerTrainConfig, SequenceConfig
from emu_robot.training.planner_data import Ints, PlanQueries, SequenceWriter, ShiftedImages
from emu_robot.training.self_distillation import DrawnSteps
from emu_robot.training.set_check import check_set


def train(config: PlannerTrainConfig) -> Path:
    """Run the stage, or resume an interrupted run. Returns the weights folder with the planner."""
    check_loop(config.loop, config.out / "planner")
    torch.manual_seed(config.loop.seed)
    tokenizers = _tokenizers(config)
    text, images = TextTokenizer.load(tokenizers), ImageTokenizer.load(tokenizers)
    buffer = ReplayBuffer.open(config.data)
    model, settings = _begin(config, text, images)
    check_set(buffer, [settings.camera], images.config.resolution, config.holdout)
    queries = PlanQueries.load(buffer, settings.camera, tokenizers)
    settings = replace(settings, max_words=max(settings.max_words, text.longest(queries.sentences)))
    form = interleaver(settings, text, images.config.n_embed)
    shifted = shifted_images(tokenizers, buffer, settings.camera, config.sequences, config.loop)
    sampler = SequenceSampler(queries, form, config.sequences, config.loop, config.holdout, shifted)

    def evaluate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, CausalTransformer)
        return planner_metrics(Planner(settings, model, text, images), queries, sampler.heldout, config.eval_queries)

    add_adapters(model, config.lora)
    device = select_device(config.loop.device)
    codebook_KD = images.quantize.codebook().to(device)
    near = near_codes(codebook_KD, config.sequences.code_temperature, form.vocabulary.first_code)
    model = fit(
        model,
        sampler,
        planner_loss(sampler.writer.first_target, near),
        config.loop,
        config.out,
        "planner",
        evaluate if len(sampler.heldout) else None,
        settings=config,
    )
    assert isinstance(model, CausalTransformer)
    if config.lora.rank:
        merge_adapters(model)
    planner = Planner(settings, model.to(device), text, images)
    metrics = planner_metrics(planner, queries, sampler.heldout, 4 * config.eval_queries)
    model.cpu()
    if tokenizers != config.weights:
        copy_weights(tokenizers, config.weights)
    planner.save(config.weights, {"metrics": metrics})
    return config.weights


def _tokenizers(config: PlannerTrainConfig) -> Path:
    """The folder with both tokenizers: `weights`, or `start` if `weights` does not exist yet."""
    if not config.start:
        return config.weights
    folder = resolve_weights(config.start)
    if not (config.weights / MANIFEST).exists():
        return folder
    hashes = {stage_hash(path, "tokenizer") for path in (folder, config.weights)}
    if len(hashes) > 1:
        raise InvalidValueError(f"{config.weights} holds another image tokenizer than {folder}; codes would not fit")
    return config.weights


def _begin(
    config: PlannerTrainConfig, text: TextTokenizer, images: ImageTokenizer
) -> tuple[CausalTransformer, PlannerConfig]:
    """The model to train, and the planner's configuration."""
    if config.start:
        planner = Planner.load(resolve_weights(config.start))
        model, settings = planner.model.requires_grad_(True), planner.config
    else:
        settings = PlannerConfig.of(config.planner, text, images.config)
        model = CausalTransformer(settings.model)
        first_code = settings.model.vocab_size - images.config.n_embed
        start_from_codebook(model, images.quantize.codebook(), first_code)
    if config.sequences.wordless_share == 0:
        settings = replace(settings, image_guidance=1.0)
    return model, settings


def shifted_images(
    weights: Path, buffer: ReplayBuffer, camera: str, sequences: SequenceConfig, loop: LoopConfig
) -> ShiftedImages | None:
    """The shifted images of a sampler; None if no image is to be shifted."""
    if sequences.shift_share == 0:
        return None
    encoder = ImageTokenizer.load(weights).to(select_device(loop.device))
    return ShiftedImages(buffer.images(camera), encoder)


@torch.no_grad()
def start_from_codebook(
    model: CausalTransformer, codebook_KD: Tensor, first_code: int, std: float | None = None
) -> None:
    """Set the codes' embeddings to a random projection of the codebook, so that similar codes start similar.

    std: standard deviation of the embeddings; that of an untrained model if none is given.
    """
    config = model.config
    generator = torch.Generator().manual_seed(0)
    mixed_KH = codebook_KD @ torch.randn(codebook_KD.shape[1], config.hidden_size, generator=generator)
    scale = config.initializer_range if std is None else std
    model.model.embed_tokens.weight[first_code:] = scale * mixed_KH / mixed_KH.std()


class Sequences(NamedTuple):
    """A batch of sequences, (B, L) each."""

    ids: Ints
    """The true ids."""
    inputs: Ints
    """The ids with some codes replaced."""
    positions: Ints
    """Position ids."""
    references: Ints
    """Id at the same place of the image before, see `References`."""
    weights: Floats32
    """Weight of each id as a target."""
    seen: NDArray[np.bool_]
    """Whether each id belongs to an image that was seen and not planned, see `Row`."""


LENGTHS = 32
"""Sequences are padded to a multiple of this length, so that a compiled model sees few lengths."""


class SequenceSampler:
    """step -> batch of ids, positions and references (B, L), targets and weights (B, L - first_target).

    `sequences(step)` gives the whole sequences behind a batch.
    """

    def __init__(
        self,
        queries: PlanQueries,
        form: Interleaver,
        config: SequenceConfig,
        loop: LoopConfig,
        holdout: float,
        shifted_images: ShiftedImages | None = None,
    ) -> None:
        """shifted_images: needed for `SequenceConfig.shift_share`; without them no image is shifted."""
        self._shifted_images = shifted_images
        self._drawn: DrawnSteps | None = None
        self._drawn_share = 0.0
        self._queries, self._form, self._config, self._loop = queries, form, config, loop
        weights = {"text": config.text_weight, "image": config.image_weight, "changed": config.changed_weight}
        self.writer = SequenceWriter(queries, form, weights)
        chosen, self.heldout = queries.split(holdout)
        complete, boundary = queries.complete[chosen], queries.boundary[chosen]
        self._complete, self._boundary = chosen[complete], chosen[boundary & ~complete]
        self._any = chosen[~complete]

    def __call__(self, step: int) -> dict[str, Tensor]:
        return self.tensors(self.sequences(step))

    def tensors(self, rows: "Sequences") -> dict[str, Tensor]:
        """The batch of these sequences."""
        first = self.writer.first_target
        arrays = {"ids": rows.inputs, "positions": rows.positions, "references": rows.references}
        arrays = {name: array[:, :-1] for name, array in arrays.items()}
        arrays |= {"targets": rows.ids[:, first + 1 :], "weights": rows.weights[:, first + 1 :]}
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}

    def unfinished(self, rng: np.random.Generator, count: int) -> Ints:
        """Random queries with a next step, `boundary_share` of them at a start or keyframe."""
        boundary = rng.random(count) < self._config.boundary_share
        return np.where(boundary, rng.choice(self._boundary, count), rng.choice(self._any, count))

    def mix_in(self, drawn: DrawnSteps, share: float) -> None:
        """From now on a `share` of the sequences holds drawn images and no target."""
        self._drawn, self._drawn_share = drawn, share

    def sequences(self, step: int) -> "Sequences":
        """The sequences of a step, padded to one length."""
        rng = step_rng(self._loop.seed, step)
        odds = np.asarray(self._config.step_odds)
        n_tries = 1 + int(rng.choice(len(odds), p=odds / odds.sum()))
        chosen = self._choose(rng)
        images = self._shifted(chosen, n_tries, rng)
        drawn = self._mix_in_drawn(chosen, images, rng)
        rows = self.collate(chosen, n_tries, images, rng, can_be_wordless=~drawn)
        rows.weights[drawn] = 0
        return rows

    def collate(
        self,
        chosen: Ints,
        n_tries: int,
        images: dict[int, list[Codes]],
        rng: np.random.Generator,
        can_be_wordless: NDArray[np.bool_] | bool = True,
    ) -> "Sequences":
        """The sequences of queries (B,), padded to one length. images: row of the batch -> its codes."""
        wordless = (rng.random(len(chosen)) < self._config.wordless_share) & can_be_wordless
        rows = [
            self.writer.write(query, n_tries, images.get(b), wordless=bool(wordless[b]))
            for b, query in enumerate(chosen.tolist())
        ]
        length = -(-max(len(row.ids) for row in rows) // LENGTHS) * LENGTHS
        ids = np.full((len(rows), length), self._form.vocabulary.pad, np.int64)
        positions, weights = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), np.float32)
        seen = np.zeros((len(rows), length), np.bool_)
        for b, row in enumerate(rows):
            held = slice(len(row.ids))
            ids[b, held], weights[b, held], seen[b, held] = row
            positions[b, held] = self._form.positions(row.ids)
        inputs = self._noisy(ids, rng)
        references = np.stack([self._form.references(row) for row in inputs.tolist()])
        return Sequences(ids, inputs, positions, references, weights, seen)

    def _choose(self, rng: np.random.Generator) -> Ints:
        count, config = self._loop.batch_size, self._config
        n_complete = rng.binomial(count, config.complete_share) if len(self._complete) else 0
        n_boundary = rng.binomial(count - n_complete, config.boundary_share / (1 - config.complete_share + 1e-9))
        n_any = count - n_complete - n_boundary
        parts = ((self._complete, n_complete), (self._boundary, n_boundary), (self._any, n_any))
        return np.concatenate([rng.choice(part, n) for part, n in parts if n])

    def _shifted(self, chosen: Ints, n_tries: int, rng: np.random.Generator) -> dict[int, list[Codes]]:
        """Row of the batch -> codes of its shifted images."""
        if self._shifted_images is None:
            return {}
        places = np.flatnonzero(rng.random(len(chosen)) < self._config.shift_share).tolist()
        queries = self._queries
        rows = [[int(queries.row[q]), *(one.row for one in queries.tries(q, n_tries))] for q in chosen[places].tolist()]
        codes = self._shifted_images.codes(rows, rng.integers(0, 1 << 16, (len(places), 2)))
        return dict(zip(places, codes, strict=True))

    def _mix_in_drawn(
        self, chosen: Ints, images: dict[int, list[Codes]], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Replace some queries and their images by drawn steps. Returns which."""
        taken = rng.random(len(chosen)) < self._drawn_share
        if self._drawn is not None:
            for b in np.flatnonzero(taken).tolist():
                i = rng.integers(len(self._drawn.query))
                chosen[b] = self._drawn.query[i]
                images[b] = list(self._drawn.images[i, : self._drawn.count[i]])
        return taken

    def _noisy(self, ids: Ints, rng: np.random.Generator) -> Ints:
        """Input ids with some codes replaced by codes of the batch's other rows at the same place in time."""
        first = self._form.vocabulary.first_code
        codes = ids[ids >= first]
        hit = (ids >= first) & (rng.random(ids.shape) < self._config.input_noise)
        return np.where(hit, rng.choice(codes, ids.shape), ids)


def planner_loss(first_target: int, near: NearCodes) -> LossFn:
    """The stage's loss function for `fit`. Logits are computed only from the first target on.

    near: shared targets of the codes that differ from the image before.
    """

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float | Tensor]]:
        references, targets = batch["references"], batch["targets"]
        logits = model(batch["ids"], batch["positions"], references_BL=references, first=first_target)
        changed = (targets >= near.first_code) & (targets != references[:, first_target:])
        return weighted_cross_entropy(logits, targets, batch["weights"], changed, near), {}

    return loss


def planner_metrics(planner: Planner, queries: PlanQueries, among: Ints, count: int) -> dict[str, float]:
    """Compare the planner's next step at held-out images with the true one. Decoding is free-running.

    subtask_accuracy: share of exact texts of next subtasks. complete_accuracy, false_complete: shares of finished and
    unfinished tasks that are held complete. code_accuracy: share of right codes of the subgoal; changed_code_accuracy,
    unchanged_code_accuracy: the same where the true subgoal differs from the current image, and where not. A metric
    without a case is left out.
    """
    pool = among[queries.boundary[among] | queries.complete[among]]
    asked = pool[np.linspace(0, len(pool) - 1, min(count, len(pool))).astype(int)].tolist()
    memory = planner.config.memory
    prompts = [
        planner.interleaver.prompt(queries.instruction(q), queries.current_codes(q), queries.past(q, memory))
        for q in asked
    ]
    blocks = [slice(i, i + 32) for i in range(0, len(asked), 32)]
    answers = [answer for block in blocks for answer in planner.first_steps(prompts[block], asked[block])]
    scores: dict[str, list[NDArray[np.bool_]]] = {}
    for query, answer in zip(asked, answers, strict=True):
        for name, value in _score(queries, query, answer).items():
            scores.setdefault(name, []).append(np.atleast_1d(value))
    joined = {name: np.concatenate(values) for name, values in scores.items()}
    return {name: float(values.mean()) for name, values in joined.items() if values.size}


def _score(queries: PlanQueries, query: int, answer: tuple[str, Codes] | None) -> dict[str, NDArray[np.bool_]]:
    truth = queries.steps(query, 1)
    if not truth:
        return {"complete_accuracy": np.array(answer is None)}
    scores = {"false_complete": np.array(answer is None)}
    scores["subtask_accuracy"] = np.array(answer is not None and same_words(answer[0], truth[0].subtask))
    if answer is not None:
        right, changed = answer[1] == truth[0].codes, truth[0].codes != queries.current_codes(query)
        scores["code_accuracy"] = right
        scores["changed_code_accuracy"], scores["unchanged_code_accuracy"] = right[changed], right[~changed]
    return scores
