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


class WordGuesser:
    """Guesses the next words of a subtask: those that follow its last word in the instruction.

    A guess that the model confirms saves passes and changes no choice. Only a row that is alone is guessed for.
    """

    def __init__(self, session: DecodingSession) -> None:
        self._session, self._place = session, 0

    def guess(self, most: int = 4) -> list[int]:
        """At most that many words; none if the last word does not stand in the rest of the instruction."""
        if len(self._session.rows) > 1:
            return []
        instruction, last = self._session.words, self._session.produced[0][-1]
        if last not in instruction[self._place :]:
            return []
        self._place = instruction.index(last, self._place) + 1
        return instruction[self._place : self._place + most]


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
        self._last: DecodingSession | None = None  # of one prompt; the next one may begin like it
        device = model.lm_head.weight.device
        vocabulary = grammar.vocabulary
        self._step_or_end = (vocabulary.bos_step, vocabulary.eos)
        self._next_word = torch.zeros(vocabulary.boi + 1, dtype=torch.bool, device=device)
        self._next_word[: vocabulary.text_size] = True
        self._first_word = self._next_word.clone()
        self._first_word[list(grammar.blank)] = False
        self._next_word[vocabulary.boi] = True

    def generate(self, prompts: Sequence[Sequence[int]], max_steps: int, seeds: Sequence[int]) -> list[list[int]]:
        """Continue every prompt by at most `max_steps` steps; return the new ids, eos last where the plan ended."""
        produced: list[list[int]] = []
        for rows in self._blocks(prompts, seeds):
            *_, found = self._steps(self._session(prompts[rows], max_steps), max_steps, seeds[rows])
            produced += found
        return produced

    def stream(self, prompt: Sequence[int], max_steps: int, seed: int) -> Iterator[list[int]]:
        """The ids of each step as soon as it is complete, then [eos] if the plan ended."""
        seen = 0
        for (produced,) in self._steps(self._session([prompt], max_steps), max_steps, [seed]):
            yield produced[seen:]
            seen = len(produced)

    @torch.inference_mode()
    def plan(
        self, prompt: Sequence[int], max_steps: int, seed: int, doubt: float = 0.0
    ) -> tuple[list[int], float | None]:
        """The new ids as `generate` gives them, and the log odds that the plan ends there; None if it has ended.

        doubt: as much less are the log odds that it ends before its first step.
        """
        session = self._session([prompt], max_steps + 1)
        *_, (produced,) = self._steps(session, max_steps, [seed], doubt)
        if produced[-1] == self.grammar.vocabulary.eos:
            return produced, None
        logits, _ = self._end_logits(session)
        return produced, float(logits[0, 1] - logits[0, 0])

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

    @torch.inference_mode()
    def answer(self, prompt: Sequence[int], most: int) -> list[int]:
        """The likeliest words that follow a prompt, which ends with bos_step, up to eos or at most so many."""
        eos = self.grammar.vocabulary.eos
        session = DecodingSession(self.model, self.grammar, [prompt], len(prompt) + most)
        allowed = torch.zeros(eos + 1, dtype=torch.bool, device=session.device)
        allowed[: self.grammar.vocabulary.text_size] = allowed[eos] = True
        while len(session.produced[0]) < most:
            logits = session.model.logits(session.advance()[:, -1], slice(0, eos + 1))
            token = int(logits.masked_fill(~allowed, -torch.inf).argmax())
            if token == eos:
                break
            session.choose(0, token)
        return session.produced[0]

    def _blocks(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int]) -> list[slice]:
        """Rows that go through the model together: all, but in int8 each alone, as int8 rounds the activations of a
        pass together and rows would affect each other. Raises `InvalidValueError` unless each has a seed."""
        count = len(prompts)
        if len(seeds) != count:
            raise InvalidValueError(f"{len(seeds)} seeds for {count} prompts, must be one for each")
        size = 1 if self.model.is_int8 else max(count, 1)
        return [slice(row, row + size) for row in range(0, count, size)]

    def _session(self, prompts: Sequence[Sequence[int]], max_steps: int) -> DecodingSession:
        if max_steps < 1:
            raise InvalidValueError(f"max_steps is {max_steps}, must be at least 1")
        slots = max(map(len, prompts)) + max_steps * self.grammar.step_length
        session = DecodingSession(self.model, self.grammar, prompts, slots, self.images.guides)
        if len(prompts) == 1:
            session.begin(self._last)
            self._last = session
        return session

    @torch.inference_mode()
    def _steps(
        self, session: DecodingSession, max_steps: int, seeds: Sequence[int], doubt: float = 0.0
    ) -> Iterator[list[list[int]]]:
        vocabulary, active = self.grammar.vocabulary, list(session.rows)
        generators = RowGenerators.seeded(seeds, session.device)
        for step in range(max_steps):
            active, hidden_BD = self._begin_steps(session, active, generators, 0.0 if step else doubt)
            if active:
                self._words(session, active, hidden_BD, generators)
                self.images.decode_image(session, active, generators)
            for row in active:
                session.choose(row, vocabulary.eoi)
            yield session.produced
            if not active:
                return

    def _begin_steps(
        self, session: DecodingSession, active: list[int], generators: RowGenerators, doubt: float
    ) -> tuple[list[int], Tensor]:
        """Choose another step or the plan's end for each row; return the rows that go on, and states (B, D) there.

        The pass already reads that another step begins; a plan that ends is read no further.
        """
        logits, next_BD = self._end_logits(session)
        logits = logits - torch.tensor([0.0, doubt], device=logits.device) if doubt else logits
        picked = self._sample_words(logits, generators.only(active))
        goes_on = [row for row in active if int(picked[row]) == 0]
        for row in active:
            session.choose(row, self._step_or_end[int(picked[row])])
            if row not in goes_on:
                session.finish(row)
        session.settle(1, 1)
        return goes_on, next_BD

    def _end_logits(self, session: DecodingSession) -> tuple[Tensor, Tensor]:
        """Logits (B, 2) of another step and of the plan's end, and the states (B, D) after the begin of another."""
        hidden_BD, next_BD = session.advance(guess=[self.grammar.vocabulary.bos_step]).unbind(1)
        logits = [session.model.logits(hidden_BD, slice(token, token + 1))[:, 0] for token in self._step_or_end]
        return torch.stack(logits, -1), next_BD

    def _words(
        self, session: DecodingSession, active: Sequence[int], hidden_BD: Tensor, generators: RowGenerators
    ) -> None:
        """Choose the words of one subtask for each row, up to and with boi; hidden_BD: the states before the first."""
        boi, writing, states, guess = self.grammar.vocabulary.boi, list(active), (hidden_BD,), []
        guesser, count = WordGuesser(session), 0
        while True:
            for kept, hidden_BD in enumerate(states):
                logits = session.model.logits(hidden_BD, slice(0, boi + 1))
                allowed = self._next_word if count else self._first_word
                picked = self._sample_words(logits.masked_fill(~allowed, -torch.inf), generators.only(writing)).tolist()
                for row in writing:
                    session.choose(row, picked[row], word=picked[row] != boi)
                writing, count = [row for row in writing if picked[row] != boi], count + 1
                if not writing or guess[kept : kept + 1] != [picked[0]]:
                    break
            session.settle(len(guess), kept)
            if not writing or count == self.grammar.max_words:
                break
            guess = guesser.guess()[: self.grammar.max_words - count - 1]
            waiting = [row for row in active if row not in writing]
            states = session.advance(waiting, guess).unbind(1)
        for row in writing:
            session.choose(row, boi)

    def _sample_words(self, logits: Tensor, generators: RowGenerators) -> Tensor:
        """An id for each row."""
        return sample(logits, self.sampling.text_temperature, self.sampling.text_top_k, generators)
