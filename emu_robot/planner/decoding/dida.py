"""Decode images in parallel (DiDA): all codes at once, in a few passes. Ids in, ids out.

The block [boi, image] is noised and denoised as a whole: each of its tokens sees all ids before the image and the whole
block, and the output at a token predicts the next one, as in autoregressive decoding. Then the clean ids are left
pending, so the next pass writes their keys and values causally, as after autoregressive decoding.
Shapes: B rows, n codes of an image, L block.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from emu_robot.planner.decoding.code_choice import CodeStates, choose_codes
from emu_robot.planner.decoding.noise_paths import NoisePath, shifted_times
from emu_robot.planner.decoding.sampling import Candidates, RowGenerators, guided
from emu_robot.planner.decoding.session import DecodingSession
from emu_robot.shared.settings import check_ranges, number


@dataclass(frozen=True, kw_only=True)
class DidaConfig:
    """How an image is denoised."""

    steps: int = number(1, 1)
    """Passes per image."""
    temperature: float = number(1.0, 0)
    """Temperature of the guess of every pass but the last, which is greedy."""
    top_k: int = number(0, 0)
    """Number of likeliest codes to guess from; 0: all."""
    likeness: float = number(0.1, 0)
    """See `SamplingConfig.image_likeness`."""
    guidance: float = number(1.0, 1)
    """See `SamplingConfig.image_guidance`."""
    guided_until: float = number(1.0, 0, 1)
    """Time at which guidance ends; 1 is the clean image."""

    def __post_init__(self) -> None:
        check_ranges(self, "dida")


class DidaImageDecoder:
    """An `ImageDecoder` for a model trained by stage dida."""

    def __init__(self, path: NoisePath, config: DidaConfig, books_PSD: Tensor) -> None:
        self._path, self._config, self._books_PSD = path, config, books_PSD

    @property
    def guides(self) -> bool:
        return self._config.guidance != 1

    def decode_image(self, session: DecodingSession, rows: Sequence[int], generators: RowGenerators) -> None:
        """See `ImageDecoder.decode_image`; the whole image is left pending."""
        blocks, generators = [_Block(branch, rows) for branch in session.branches], generators.only(rows)
        codes_Bn = self._path.start((len(session.rows), blocks[0].n_codes), generators)
        times = shifted_times(self._config.steps)
        for i, (time, after) in enumerate(itertools.pairwise(times)):
            is_last = i == self._config.steps - 1
            states = [block.states(codes_Bn) for block in blocks[: 2 if self._guides_at(time) else 1]]
            pick = self._final if is_last else partial(self._sample, generators)
            chosen_Bn = choose_codes(session.model, session.grammar.vocabulary, states, pick)
            codes_Bn = chosen_Bn if is_last else self._path.step(codes_Bn, chosen_Bn, time, after - time, generators)
        for row in rows:
            for token in blocks[0].filled(codes_Bn)[row].tolist()[1:]:
                session.choose(row, token)

    def _guides_at(self, time: float) -> bool:
        return self.guides and time < self._config.guided_until

    def _candidates(self, logits: Sequence[Tensor]) -> Candidates:
        """What each place may become, (B, n, candidates); as long as guidance lasts, by both branches."""
        return guided(*logits, scale=self._config.guidance) if len(logits) > 1 else Candidates.of(*logits)

    def _sample(self, generators: RowGenerators, logits: Sequence[Tensor], _book: int) -> Tensor:
        return self._candidates(logits).sample(self._config.temperature, self._config.top_k, generators)

    def _final(self, logits: Sequence[Tensor], book: int) -> Tensor:
        candidates = self._candidates(logits)
        if self._config.likeness == 0:
            return candidates.sample(0, 0)
        return candidates.likeliest_look(self._books_PSD[book], self._config.likeness)


class _Block:
    """The tokens of one image for each row of a branch: boi, what the template fixes, and codes."""

    def __init__(self, session: DecodingSession, rows: Sequence[int]) -> None:
        self.session, self.rows = session, rows
        vocabulary, template = session.grammar.vocabulary, session.grammar.template
        for row in rows:
            session.pending[row].pop()  # boi belongs to the block
        if any(session.pending[row] for row in rows):
            session.advance()
        for row in rows:
            session.pending[row].append(vocabulary.boi)  # written after the block, with the clean image
        fixed = [vocabulary.boi, *(vocabulary.pad if token is None else token for token in template)]
        self._ids_L = torch.tensor(fixed, device=session.device)
        self._places = torch.tensor([i for i, token in enumerate(template, 1) if token is None], device=session.device)
        self.n_codes = len(self._places)
        inside = [vocabulary.boi, *(vocabulary.first_code if token is None else token for token in template)]
        positions = [session.positions(row, inside) for row in session.rows]
        self._positions_BL = torch.tensor(positions, device=session.device)
        none = [-1] * len(inside)
        references = [[*session.image_before(row), *none][: len(inside)] for row in session.rows]
        self._references_BL = torch.tensor(references, device=session.device)

    def filled(self, codes_Bn: Tensor) -> Tensor:
        """(B, L) ids; a code beyond the codebook, the mask, becomes pad."""
        vocabulary = self.session.grammar.vocabulary
        ids_BL = self._ids_L.expand(len(codes_Bn), -1).clone()
        ids_BL[:, self._places] = torch.where(
            codes_Bn < vocabulary.n_codes, codes_Bn + vocabulary.first_code, vocabulary.pad
        )
        return ids_BL

    def states(self, codes_Bn: Tensor) -> CodeStates:
        """(B, n) of every code, each read one token before its place."""
        session, readers = self.session, self._places - 1
        hidden_BLD = session.peek(self.filled(codes_Bn), self._positions_BL, self._references_BL, self.rows)
        return CodeStates(hidden_BLD[:, readers], self._references_BL[:, readers])
