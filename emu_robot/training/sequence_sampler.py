"""The batches of the planner's training: plans from any moment of an episode, and questions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emu_robot.core import Floats, Floats32
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError, UnknownNameError
from emu_robot.tokenizers.image import ImageTokenizer
from emu_robot.tokenizers.interleave import Codes, Interleaver
from emu_robot.training.image_names import ImageNames
from emu_robot.training.loop import LoopConfig, select_device, step_rng
from emu_robot.training.nonce_names import NonceNames
from emu_robot.training.planner_config import SequenceConfig
from emu_robot.training.planner_data import Ints, PlanQueries, Row, SequenceWriter, ShiftedImages
from emu_robot.training.question_data import QuestionWriter
from emu_robot.training.self_distillation import DrawnSteps


def shifted_images(
    weights: Path, buffer: ReplayBuffer, camera: str, sequences: SequenceConfig, loop: LoopConfig
) -> ShiftedImages | None:
    """The shifted images of a sampler; None if no image is to be shifted."""
    if sequences.shift_share == 0:
        return None
    encoder = ImageTokenizer.load(weights).to(select_device(loop.device))
    return ShiftedImages(buffer.images(camera), encoder)


def question_writer(
    buffer: ReplayBuffer, queries: PlanQueries, form: Interleaver, sequences: SequenceConfig, holdout: float
) -> QuestionWriter | None:
    """The questions of a sampler; None if it asks none."""
    return QuestionWriter(buffer, queries.codes_Mn, form, holdout) if sequences.question_share else None


def nonce_names(buffer: ReplayBuffer, sequences: SequenceConfig) -> NonceNames | None:
    """The names that a sampler replaces; None if it replaces none."""
    return NonceNames.load(buffer) if sequences.nonce_share else None


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
    pictures: list[list[tuple[int, int]]]
    """The stored images of each sequence, see `Row`."""


def family_weights(queries: PlanQueries, weights: Mapping[str, float]) -> Floats:
    """(E,) weight of each episode. Raises `UnknownNameError` for a family that the set does not have."""
    for name in weights:
        if name not in queries.families:
            raise UnknownNameError("family in sequences.family_weights", name, sorted(set(queries.families)))
    return np.array([weights.get(family, 1.0) for family in queries.families])


LENGTHS = 32
"""Sequences are padded to a multiple of this length, so that a compiled model sees few lengths."""


class SequenceSampler:
    """step -> batch of ids, positions, references, targets and weights (B, L).

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
        questions: QuestionWriter | None = None,
        named: ImageNames | None = None,
        nonce_names: NonceNames | None = None,
    ) -> None:
        """shifted_images: needed for `SequenceConfig.shift_share`; without them no image is shifted. questions: needed
        for `SequenceConfig.question_share`. named: adds what each image shows as targets. nonce_names:
        needed for `SequenceConfig.nonce_share`."""
        self._shifted_images, self._questions, self._named = shifted_images, questions, named
        self._nonce_names = nonce_names
        self._drawn: DrawnSteps | None = None
        self._drawn_share = 0.0
        self._queries, self._form, self._config, self._loop = queries, form, config, loop
        weights = {"text": config.text_weight, "image": config.image_weight, "changed": config.changed_weight}
        self.writer = SequenceWriter(queries, form, weights)
        chosen, self.heldout = queries.split(holdout)
        self._weight_E = family_weights(queries, config.family_weights)
        chosen = chosen[self._weight_E[queries.episode[chosen]] > 0]
        complete, boundary = queries.complete[chosen], queries.boundary[chosen]
        self._complete, self._boundary = chosen[complete], chosen[boundary & ~complete]
        self._any = chosen[~complete]
        if not len(self._any):
            raise DataError("no moment of a training episode has a next step to learn")
        if not len(self._boundary):  # corrections may begin and end within subtasks
            self._boundary = self._any

    def __call__(self, step: int) -> dict[str, Tensor]:
        return self.tensors(self.sequences(step))

    def tensors(self, rows: "Sequences") -> dict[str, Tensor]:
        """The batch of these sequences."""
        arrays = {"ids": rows.inputs, "positions": rows.positions, "references": rows.references}
        arrays = {name: array[:, :-1] for name, array in arrays.items()}
        arrays |= {"targets": rows.ids[:, 1:], "weights": rows.weights[:, 1:]}
        batch = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        return batch | self.named(rows)

    def named(self, rows: "Sequences") -> dict[str, Tensor]:
        """The part of a batch that tells what its images show, see `ImageNames`; empty if nothing is to be named."""
        if self._named is None:
            return {}
        return {name: torch.from_numpy(array) for name, array in self._named.targets(rows.pictures).items()}

    def unfinished(self, rng: np.random.Generator, count: int) -> Ints:
        """Random queries with a next step, `boundary_share` of them at a start or keyframe."""
        boundary = rng.random(count) < self._config.boundary_share
        return np.where(boundary, self._pick(self._boundary, count, rng), self._pick(self._any, count, rng))

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
        rows = self.rows(chosen, n_tries, images, rng, can_be_wordless=~drawn)
        if self._questions is not None:
            count = self._loop.batch_size - len(chosen)
            rows += [self._questions.write(rng, self._config.text_weight) for _ in range(count)]
        batch = self._thinned(self.collate(rows, rng), rng)
        batch.weights[: len(chosen)][drawn] = 0
        return batch

    def rows(
        self,
        chosen: Ints,
        n_tries: int,
        images: dict[int, list[Codes]],
        rng: np.random.Generator,
        can_be_wordless: NDArray[np.bool_] | bool = True,
    ) -> list[Row]:
        """The sequences of queries (B,). images: row of the batch -> its codes."""
        wordless = (rng.random(len(chosen)) < self._config.wordless_share) & can_be_wordless
        renamed = [self._renamed(query, rng) if b not in images else None for b, query in enumerate(chosen.tolist())]
        return [
            self.writer.write(query, n_tries, images.get(b), wordless=bool(wordless[b]), renamed=renamed[b])
            for b, query in enumerate(chosen.tolist())
        ]

    def _renamed(self, query: int, rng: np.random.Generator) -> dict[str, str] | None:
        """Other words for `nonce_share` of the queries that name things."""
        if self._nonce_names is None or rng.random() >= self._config.nonce_share:
            return None
        queries = self._queries
        subtasks = queries.subtasks[queries.episode[query]]
        return self._nonce_names.renamed(rng, queries.instruction(query), subtasks) or None

    def collate(self, rows: Sequence[Row], rng: np.random.Generator) -> "Sequences":
        """The sequences, padded to one length."""
        length = -(-max(len(row.ids) for row in rows) // LENGTHS) * LENGTHS
        ids = np.full((len(rows), length), self._form.vocabulary.pad, np.int64)
        positions, weights = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), np.float32)
        seen = np.zeros((len(rows), length), np.bool_)
        for b, row in enumerate(rows):
            held = slice(len(row.ids))
            ids[b, held], weights[b, held], seen[b, held] = row.ids, row.weights, row.seen
            positions[b, held] = self._form.positions(row.ids)
        inputs = self._noisy(ids, rng)
        references = np.stack([self._form.references(row) for row in inputs.tolist()])
        return Sequences(ids, inputs, positions, references, weights, seen, [row.pictures for row in rows])

    def _thinned(self, rows: "Sequences", rng: np.random.Generator) -> "Sequences":
        """The same with `unchanged_share` of the unchanged codes as targets."""
        share, targets = self._config.unchanged_share, rows.ids[:, 1:]
        if share == 1:
            return rows
        unchanged = (targets >= self._form.vocabulary.first_code) & (targets == rows.references[:, :-1])
        kept = rng.random(targets.shape) < share
        weights = rows.weights.copy()
        weights[:, 1:] *= np.where(unchanged, kept / share, 1)
        return rows._replace(weights=weights)

    def _choose(self, rng: np.random.Generator) -> Ints:
        config = self._config
        count = max(round(self._loop.batch_size * (1 - config.question_share)), 1)
        n_complete = rng.binomial(count, config.complete_share) if len(self._complete) else 0
        n_boundary = rng.binomial(count - n_complete, config.boundary_share / (1 - config.complete_share + 1e-9))
        n_any = count - n_complete - n_boundary
        parts = ((self._complete, n_complete), (self._boundary, n_boundary), (self._any, n_any))
        return np.concatenate([self._pick(part, n, rng) for part, n in parts if n])

    def _pick(self, queries: Ints, count: int, rng: np.random.Generator) -> Ints:
        """So many of these queries, by the weights of their families."""
        if not self._config.family_weights:
            return rng.choice(queries, count)
        upto = np.cumsum(self._weight_E[self._queries.episode[queries]])
        return queries[np.searchsorted(upto, upto[-1] * rng.random(count), side="right")]

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
