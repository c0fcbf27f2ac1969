"""Rows of ids decoded together over one cache: feed chosen ids, read logits of the next.

Ids that the grammar fixes wait in `pending` and are fed with the next choice, so they cost no pass.
Shapes: B rows, L block, D hidden.
"""

from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Protocol

import torch
from torch import Tensor

from emu_robot.models.kv_cache import KVCache
from emu_robot.models.transformer import CausalTransformer
from emu_robot.planner.decoding.code_choice import CodeStates
from emu_robot.planner.decoding.grammar import PlanGrammar
from emu_robot.planner.decoding.sampling import RowGenerators
from emu_robot.tokenizers.interleave import References


class DecodingSession:
    """State of B sequences: cache, last position ids, and chosen ids that the model has not seen.

    With `guidance` there is a second session, `wordless`, with the same sequences without their words; see `guided`.
    It gets every id that is chosen here, but for words. Only images feed it, so that words cost it no pass.
    """

    def __init__(
        self,
        model: CausalTransformer,
        grammar: PlanGrammar,
        prompts: Sequence[Sequence[int]],
        slots: int,
        guidance: bool = False,
    ) -> None:
        self.model, self.grammar, self.rows = model, grammar, range(len(prompts))
        self.device, dtype = model.lm_head.weight.device, model.lm_head.weight.dtype
        self.pending = [list(prompt) for prompt in prompts]
        self.words = [token for token in prompts[0] if token < grammar.vocabulary.text_size]  # of the first row
        self.produced: list[list[int]] = [[] for _ in prompts]
        self.cache = KVCache(model.config, len(prompts), slots, self.device, dtype)
        self.blocks: list[list[int]] = []
        """The blocks of the prompt that are in the cache after the first step has begun, see `begin`."""
        self._position = [-1] * len(prompts)
        self._references = [References(grammar.vocabulary) for _ in prompts]
        self.wordless: DecodingSession | None = None
        if guidance:
            wordless = [grammar.vocabulary.without_words(prompt) for prompt in prompts]
            self.wordless = DecodingSession(model, grammar, wordless, slots)

    def begin(self, before: "DecodingSession | None" = None) -> None:
        """Feed the only row's prompt but for its last block, in blocks that end with bos_step.

        A prompt that remembers grows by a block from one plan to the next. Those that `before` has fed are taken over
        with its cache. The blocks are the same with and without it, and so are the results, to the bit.
        """
        others = [None] * len(self.branches) if before is None else before.branches
        for branch, other in zip(self.branches, others, strict=True):
            branch._begin(other)

    def _begin(self, before: "DecodingSession | None") -> None:
        bos_step, blocks = self.grammar.vocabulary.bos_step, [list[int]()]
        for token in self.pending[0]:
            blocks[-1].append(token)
            if token == bos_step:
                blocks.append([])
        *whole, last = blocks
        known = before.blocks if before is not None else []
        n_known = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(whole, known, strict=False)))
        if before is not None and n_known:
            self.cache, before.cache.slots = before.cache, self.cache.slots
            self.cache.length = sum(map(len, whole[:n_known]))
            for block in whole[:n_known]:
                self._position[0] = self.positions(0, block)[-1]
                for token in block:
                    self._references[0].after(token)
        for block in whole[n_known:]:
            self.pending[0] = block
            self.advance()
        self.pending[0] = last
        self.blocks = [*whole, [*last, bos_step]]

    @property
    def branches(self) -> "list[DecodingSession]":
        """The sessions that an image is decoded from: this one, and with guidance the one without words."""
        return [self] if self.wordless is None else [self, self.wordless]

    def choose(self, row: int, token: int, *, word: bool = False) -> None:
        """Append an id to a row; the model sees it at the next `advance`."""
        self.produced[row].append(token)
        for branch in self.branches[: 1 if word else None]:
            branch.pending[row].append(token)

    def finish(self, row: int) -> None:
        """End a row; no more of it is fed."""
        for branch in self.branches:
            branch.pending[row].clear()

    def positions(self, row: int, tokens: Sequence[int]) -> list[int]:
        """Position ids of `tokens` if they came next."""
        positions, position = [], self._position[row]
        for token in tokens:
            position = self.grammar.vocabulary.next_position(position, token, self.grammar.image_stride)
            positions.append(position)
        return positions

    def advance(self, waiting: Sequence[int] = (), guess: Sequence[int] = ()) -> Tensor:
        """Feed all pending ids but those of `waiting` rows, then `guess`, of which `settle` keeps what is then chosen.

        Returns hidden states (B, 1 + guess, D): after each row's last pending id, and after each id of the guess. Rows
        with fewer ids are padded on the left; the state of a row without ids is undefined.
        """
        fed = [[*tokens, *guess] if tokens and row not in waiting else [] for row, tokens in enumerate(self.pending)]
        length = max(map(len, fed))
        ids, positions, references, valid = [], [], [], []
        for row, tokens in enumerate(fed):
            padding = length - len(tokens)
            placed = self.positions(row, tokens)
            self._position[row] = placed[-1] if placed else self._position[row]
            ids.append([self.grammar.vocabulary.pad] * padding + tokens)
            positions.append([0] * padding + placed)
            references.append([-1] * padding + [self._references[row].after(token) for token in tokens])
            valid.append([False] * padding + [True] * len(tokens))
            if tokens:
                self.pending[row] = []
        ids_BL, positions_BL, references_BL = (
            torch.tensor(block, device=self.device) for block in (ids, positions, references)
        )
        valid_BL = None if all(map(all, valid)) else torch.tensor(valid, device=self.device)
        self._last_references = references_BL[:, -1]
        hidden_BLD = self.model.model(
            ids_BL, positions_BL, references_BL=references_BL, cache=self.cache, valid_BL=valid_BL
        )
        return hidden_BLD[:, -1 - len(guess) :]

    def settle(self, guess: int, kept: int) -> None:
        """After `advance` with a guess of that length: its first `kept` ids were chosen, the model forgets the others.

        The others must be words.
        """
        self.cache.length -= guess - kept
        for row, tokens in enumerate(self.pending):
            self._position[row] -= guess - kept
            del tokens[:kept]

    def state(self) -> CodeStates:
        """Call `advance`; return what the next code is chosen from."""
        return CodeStates(self.advance()[:, -1], self._last_references)

    def image_before(self, row: int) -> list[int]:
        """Ids inside the last whole image of a row."""
        return self._references[row].before

    def peek(self, ids_BL: Tensor, positions_BL: Tensor, references_BL: Tensor, having: Collection[int]) -> Tensor:
        """Hidden states (B, L, D) of a block that sees the whole cache and all of itself, and leaves no trace.

        having: rows with a block; the states of others are undefined.
        """
        cache, (rows, count) = self.cache, ids_BL.shape
        before, padded = cache.length, cache.padded
        valid_B = torch.tensor([row in having for row in range(rows)], device=self.device)
        seen_BS = torch.cat([cache.valid_BS[:, :before], valid_B[:, None].expand(-1, count)], 1)
        own_LS = torch.cat(
            [seen_BS.new_zeros(count, before), torch.eye(count, dtype=torch.bool, device=self.device)], 1
        )
        hidden_BLD = self.model.model(
            ids_BL,
            positions_BL,
            references_BL=references_BL,
            mask=seen_BS[:, None, None] | own_LS,
            cache=cache,
        )
        cache.length, cache.padded = before, padded
        return hidden_BLD


class ImageDecoder(Protocol):
    """Produces the images of rows, in any order and number of passes.

    guides: whether it needs a session with guidance.
    """

    @property
    def guides(self) -> bool: ...

    def decode_image(self, session: DecodingSession, rows: Sequence[int], generators: RowGenerators) -> None:
        """Choose every id of the template for each of `rows`, drawing from the row's generator alone.

        On entry boi is the last pending id of `rows`, and other rows have none pending. On return the chosen ids are in
        `session.produced`, and each is either in the cache, causally, or pending.
        """
        ...
