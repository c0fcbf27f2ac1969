"""Decode plans under a grammar: words one by one, images by an `ImageDecoder`. Ids in, ids out.

All rows of a batch go through the same phase together; a row that is done waits, padded. Each row draws from its own
seed, so that the other rows of the batch do not matter.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from emu_robot.errors import InvalidValueError
from emu_robot.models.transformer import CausalTransformer
from emu_robot.planner.decoding.grammar import PlanGrammar
from emu_robot.planner.decoding.sampling import RowGenerators, SamplingConfig, sample
from emu_robot.planner.decoding.session import DecodingSession, ImageDecoder


class PlanDecoder:
    """Continues prompts by plan steps. `sampling` chooses words, the image decoder images."""

    def __init__(
        self,
        model: CausalTransformer,
        grammar: PlanGrammar,
        sampling: SamplingConfig,
        image_decoder: ImageDecoder,
    ) -> None:
        self.model, self.grammar = model, grammar
        self.sampling, self.images = sampling, image_decoder
        device = model.lm_head.weight.device
        vocabulary = grammar.vocabulary
        self._next_word = torch.zeros(vocabulary.boi + 1, dtype=torch.bool, device=device)
        self._next_word[: vocabulary.text_size] = True
        self._first_word = self._next_word.clone()
        self._first_word[list(grammar.blank)] = False
        self._next_word[vocabulary.boi] = True

    def generate(self, prompts: Sequence[Sequence[int]], max_steps: int, seeds: Sequence[int]) -> list[list[int]]:
        """Continue every prompt by at most `max_steps` steps; return the new ids, eos last where the plan ended."""
        produced: list[list[int]] = []
        for rows in self._blocks(prompts, seeds):
            *_, found = self._steps(prompts[rows], max_steps, seeds[rows])
            produced += found
        return produced

    def stream(self, prompt: Sequence[int], max_steps: int, seed: int) -> Iterator[list[int]]:
        """The ids of each step as soon as it is complete, then [eos] if the plan ended."""
        seen = 0
        for (produced,) in self._steps([prompt], max_steps, [seed]):
            yield produced[seen:]
            seen = len(produced)

    @torch.inference_mode()
    def draw(self, sequences: Sequence[Sequence[int]], seeds: Sequence[int]) -> list[list[int]]:
        """The ids between boi and eoi of the image that continues each sequence, which ends with boi."""
        produced: list[list[int]] = []
        for rows in self._blocks(sequences, seeds):
            slots = max(map(len, sequences[rows])) + len(self.grammar.template)
            session = DecodingSession(self.model, self.grammar, sequences[rows], slots, self.images.guides)
            self.images.decode_image(session, session.rows, RowGenerators.seeded(seeds[rows], session.device))
            produced += session.produced
        return produced

    def _blocks(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int]) -> list[slice]:
        """Rows that go through the model together: all, but in int8 each alone, as int8 rounds the activations of a
        pass together and rows would affect each other. Raises `InvalidValueError` unless each has a seed."""
        count = len(prompts)
        if len(seeds) != count:
            raise InvalidValueError(f"{len(seeds)} seeds for {count} prompts, must be one for each")
        size = 1 if self.model.is_int8 else max(count, 1)
        return [slice(row, row + size) for row in range(0, count, size)]

    @torch.inference_mode()
    def _steps(
        self, prompts: Sequence[Sequence[int]], max_steps: int, seeds: Sequence[int]
    ) -> Iterator[list[list[int]]]:
        if max_steps < 1:
            raise InvalidValueError(f"max_steps is {max_steps}, must be at least 1")
        slots = max(map(len, prompts)) + max_steps * self.grammar.step_length
        session = DecodingSession(self.model, self.grammar, prompts, slots, self.images.guides)
        vocabulary, active = self.grammar.vocabulary, list(session.rows)
        generators = RowGenerators.seeded(seeds, session.device)
        for _ in range(max_steps):
            active = self._begin_steps(session, active, generators)
            if active:
                self._words(session, active, generators)
                self.images.decode_image(session, active, generators)
            for row in active:
                session.choose(row, vocabulary.eoi)
            yield session.produced
            if not active:
                return

    def _begin_steps(self, session: DecodingSession, active: list[int], generators: RowGenerators) -> list[int]:
        """Choose another step or the plan's end for each row; return the rows that go on."""
        vocabulary = self.grammar.vocabulary
        choices = (vocabulary.bos_step, vocabulary.eos)
        hidden_BD = session.advance()
        logits = torch.stack([session.model.logits(hidden_BD, slice(i, i + 1))[:, 0] for i in choices], -1)
        picked = self._sample_words(logits, generators.only(active))
        goes_on = [row for row in active if int(picked[row]) == 0]
        for row in active:
            session.choose(row, choices[int(picked[row])])
            if row not in goes_on:
                session.finish(row)
        return goes_on

    def _words(self, session: DecodingSession, active: Sequence[int], generators: RowGenerators) -> None:
        """Choose the words of one subtask for each row, up to and with boi."""
        boi, writing = self.grammar.vocabulary.boi, list(active)
        for count in range(self.grammar.max_words):
            waiting = [row for row in active if row not in writing]
            logits = session.model.logits(session.advance(waiting), slice(0, boi + 1))
            allowed = self._next_word if count else self._first_word
            picked = self._sample_words(logits.masked_fill(~allowed, -torch.inf), generators.only(writing))
            for row in writing:
                session.choose(row, int(picked[row]), word=int(picked[row]) != boi)
            writing = [row for row in writing if int(picked[row]) != boi]
            if not writing:
                return
        for row in writing:
            session.choose(row, boi)

    def _sample_words(self, logits: Tensor, generators: RowGenerators) -> Tensor:
        """An id for each row."""
        return sample(logits, self.sampling.text_temperature, self.sampling.text_top_k, generators)
