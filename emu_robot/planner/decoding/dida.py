"""Decode images in parallel (DiDA): all codes at once, in a few passes. Ids in, ids out.

The block [boi, image] is noised and denoised as a whole: each of its tokens sees all ids before the image and the whole
block, and the output at a token predicts the next one, as in autoregressive decoding. Then the clean ids are left
pending, so the next pass writes their keys and values causally, as after autoregressive decoding.
Shapes: B rows, n codes of an image, L block.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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

    def __init__(self, path: NoisePath, config: DidaConfig, codebook_KD: Tensor) -> None:
        self._path, self._config, self._codebook_KD = path, config, codebook_KD

    @property
    def guides(self) -> bool:
        return self._config.guidance != 1

    def decode_image(self, session: DecodingSession, rows: Sequence[int], generators: RowGenerators) -> None:
        """See `ImageDecoder.decode_image`; the whole image is left pending."""
        blocks, generators = [_Block(branch, rows) for branch in session.branches], generators.only(rows)
        codes_Bn = self._path.start((len(session.rows), blocks[0].n_codes), generators)
        times = shifted_times(self._config.steps)
        for i, (time, after) in enumerate(itertools.pairwise(times)):
            candidates = self._candidates(blocks, codes_Bn, time)
            if i == self._config.steps - 1:
                codes_Bn = self._final(candidates)
            else:
                guess_Bn = candidates.sample(self._config.temperature, self._config.top_k, generators)
                codes_Bn = self._path.step(codes_Bn, guess_Bn, time, after - time, generators)
        for row in rows:
            for token in blocks[0].filled(codes_Bn)[row].tolist()[1:]:
                session.choose(row, token)

    def _candidates(self, blocks: "Sequence[_Block]", codes_Bn: Tensor, time: float) -> Candidates:
        """What each place may become, (B, n, candidates); as long as guidance lasts, by both branches."""
        if not self.guides or time >= self._config.guided_until:
            return Candidates.of(blocks[0].logits(codes_Bn))
        return guided(*(block.logits(codes_Bn) for block in blocks), scale=self._config.guidance)

    def _final(self, candidates: Candidates) -> Tensor:
        if self._config.likeness == 0:
            return candidates.sample(0, 0)
        return candidates.likeliest_look(self._codebook_KD, self._config.likeness)


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

    def logits(self, codes_Bn: Tensor) -> Tensor:
        """(B, n, K) of every code, each read one token before its place."""
        session, readers = self.session, self._places - 1
        hidden_BLD = session.peek(self.filled(codes_Bn), self._positions_BL, self._references_BL, self.rows)
        return session.model.logits(hidden_BLD[:, readers], session.grammar.code_ids, self._references_BL[:, readers])
