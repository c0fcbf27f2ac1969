"""Stage planner: next-token prediction on interleaved plans, from any moment of an episode."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.weights import MANIFEST, copy_weights, resolve_weights, stage_hash
from emu_robot.planner.planner import Planner, PlannerConfig, interleaver
from emu_robot.shared.words import same_words
from emu_robot.tokenizers.image import ImageTokenizer
from emu_robot.tokenizers.interleave import Codes
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.training.image_names import ImageNames, load_names, naming_error, with_names
from emu_robot.training.loop import LossFn, check_loop, fit, select_device
from emu_robot.training.lora import add_adapters, merge_adapters
from emu_robot.training.losses import NearCodes, near_digits
from emu_robot.training.new_tokenizers import with_tokenizers
from emu_robot.training.planner_config import PlannerTrainConfig
from emu_robot.training.planner_data import Ints, PlanQueries
from emu_robot.training.sequence_loss import sequence_loss
from emu_robot.training.sequence_sampler import SequenceSampler, nonce_names, question_writer, shifted_images
from emu_robot.training.set_check import check_set


def train(config: PlannerTrainConfig) -> Path:
    """Run the stage, or resume an interrupted run. Returns the weights folder with the planner."""
    check_loop(config.loop, config.out / "planner")
    torch.manual_seed(config.loop.seed)
    tokenizers = _tokenizers(config)
    text, images = TextTokenizer.load(tokenizers), ImageTokenizer.load(tokenizers)
    buffer = ReplayBuffer.open(config.data)
    model, settings = _begin(config, text, images, buffer)
    things = load_names(buffer, settings.camera, config.sequences.naming_weight)
    model, settings = with_names(model, settings, things)
    check_set(buffer, [settings.camera], images.config.resolution, config.holdout)
    queries = PlanQueries.load(buffer, settings.camera, tokenizers)
    settings = replace(settings, max_words=max(settings.max_words, text.longest(queries.sentences)))
    form = interleaver(settings, text, images.config)
    shifted = shifted_images(tokenizers, buffer, settings.camera, config.sequences, config.loop)
    asked = question_writer(buffer, queries, form, config.sequences, config.holdout)
    named = None if things is None else ImageNames(things, form)
    invented = nonce_names(buffer, config.sequences)
    sampler = SequenceSampler(
        queries, form, config.sequences, config.loop, config.holdout, shifted, asked, named, invented
    )

    def evaluate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, CausalTransformer)
        return planner_metrics(Planner(settings, model, text, images), queries, sampler.heldout, config.eval_queries)

    add_adapters(model, config.lora)
    if named is not None:
        model.naming.requires_grad_(True)
    device = select_device(config.loop.device)
    books_PSD = images.quantize.books().to(device)
    near = near_digits(books_PSD, config.sequences.code_temperature, form.vocabulary.first_code)
    model = fit(
        model,
        sampler,
        planner_loss(near, config.sequences.naming_weight),
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
    new = config.start and not (config.weights / MANIFEST).exists()
    return resolve_weights(config.start) if new else config.weights


def _begin(
    config: PlannerTrainConfig, text: TextTokenizer, images: ImageTokenizer, buffer: ReplayBuffer
) -> tuple[CausalTransformer, PlannerConfig]:
    """The model to train, and the planner's configuration."""
    if config.start:
        model, settings = _started(config, text, images, buffer)
    else:
        settings = PlannerConfig.of(config.planner, text, images.config)
        model = CausalTransformer(settings.model)
        start_from_books(model, images.quantize.books())
    if config.sequences.wordless_share == 0:
        settings = replace(settings, image_guidance=1.0)
    return model, settings


def _started(
    config: PlannerTrainConfig, text: TextTokenizer, images: ImageTokenizer, buffer: ReplayBuffer
) -> tuple[CausalTransformer, PlannerConfig]:
    """The planner that `start` names, for the tokenizers in `weights`."""
    planner = Planner.load(resolve_weights(config.start))
    model, settings = planner.model, planner.config
    tokenizers = _tokenizers(config)
    if stage_hash(tokenizers, "tokenizer") != stage_hash(resolve_weights(config.start), "tokenizer"):
        model, settings = with_tokenizers(planner, text, images, buffer.images(settings.camera))
        print(f"planner: {config.start} goes on with the tokenizers in {tokenizers}")
    settings = replace(settings, memory=max(settings.memory, config.planner.memory))
    return model.requires_grad_(True), settings


@torch.no_grad()
def start_from_books(model: CausalTransformer, books_PSD: Tensor, std: float | None = None) -> None:
    """Set the codes' embeddings to a random projection of the codebooks, so that similar codes start similar.

    std: standard deviation of the embeddings; that of an untrained model if none is given.
    """
    config, codebook_KD = model.config, books_PSD.flatten(0, 1)
    generator = torch.Generator().manual_seed(0)
    mixed_KH = codebook_KD @ torch.randn(codebook_KD.shape[1], config.hidden_size, generator=generator)
    scale = config.initializer_range if std is None else std
    model.model.embed_tokens.weight[-len(codebook_KD) :] = scale * mixed_KH / mixed_KH.std()


def planner_loss(near: Sequence[NearCodes], naming_weight: float = 0.0) -> LossFn:
    """The stage's loss function for `fit`. Logits are computed only where there is a target.

    near: shared targets of the codes that differ from the image before, see `near_digits`. naming_weight: of
    `naming_error`; 0 for a model without names.
    """

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float | Tensor]]:
        assert isinstance(model, CausalTransformer)
        asked = batch["weights"] > 0
        states: list[Tensor] | None = [] if naming_weight else None
        hidden_BLD = model.model(batch["ids"], batch["positions"], references_BL=batch["references"], states=states)
        targets, references, weights = (batch[name][asked] for name in ("targets", "references", "weights"))
        error = sequence_loss(model, hidden_BLD[asked], targets, references, weights, near)
        if states is None:
            return error, {}
        naming = naming_error(model, states, batch["named_places"], batch["named"])
        return error + naming_weight * naming, {"naming": naming}

    return loss


def planner_metrics(planner: Planner, queries: PlanQueries, among: Ints, count: int) -> dict[str, float]:
    """Compare the planner's next step at held-out images with the true one. Decoding is free-running.

    subtask_accuracy: share of exact texts of next subtasks. complete_accuracy, false_complete: shares of finished and
    unfinished tasks that are held complete. code_accuracy: share of right codes of the subgoal; changed_code_accuracy,
    unchanged_code_accuracy: the same where the true subgoal differs from the current image, and where not. A metric
    without a case is left out.
    """
    pool = among[queries.boundary[among] | queries.complete[among]]
    pool = pool if len(pool) else among  # corrections may begin and end within subtasks
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
