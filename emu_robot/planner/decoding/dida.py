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
from emu_robot.planner.decoding.sampling import RowGenerators, guided, likeliest_look, sample
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
        block, generators = _Block(session, rows), generators.only(rows)
        codes_Bn = self._path.start((len(session.rows), block.n_codes), generators)
        times = shifted_times(self._config.steps)
        for i, (time, after) in enumerate(itertools.pairwise(times)):
            logits_BnK = self._guided(block.logits(codes_Bn), time)
            if i == self._config.steps - 1:
                codes_Bn = self._final(logits_BnK)
            else:
                guess_Bn = sample(logits_BnK, self._config.temperature, self._config.top_k, generators)
                codes_Bn = self._path.step(codes_Bn, guess_Bn, time, after - time, generators)
        block.finish(codes_Bn)

    def _guided(self, logits: Tensor, time: float) -> Tensor:
        """(B, n, K) of (B, n, K), or of (2 B, n, K) in a session with guidance."""
        if not self.guides:
            return logits
        if time >= self._config.guided_until:
            return logits.chunk(2)[0]
        return guided(logits, self._config.guidance)

    def _final(self, logits_BnK: Tensor) -> Tensor:
        if self._config.likeness == 0:
            return logits_BnK.argmax(-1)
        flat = likeliest_look(logits_BnK.flatten(0, 1), self._codebook_KD, self._config.likeness)
        return flat.view(logits_BnK.shape[:2])


class _Block:
    """The tokens of one image for each row: boi, what the template fixes, and codes."""

    def __init__(self, session: DecodingSession, rows: Sequence[int]) -> None:
        self.session, self.rows = session, rows
        vocabulary, template = session.grammar.vocabulary, session.grammar.template
        copies = [copy for row in rows for copy in session.copies(row)]
        for copy in copies:
            session.pending[copy].pop()  # boi belongs to the block
        if any(session.pending[copy] for copy in copies):
            session.advance()
        fixed = [vocabulary.boi, *(vocabulary.pad if token is None else token for token in template)]
        self._ids_L = torch.tensor(fixed, device=session.device)
        self._places = torch.tensor([i for i, token in enumerate(template, 1) if token is None], device=session.device)
        self.n_codes = len(self._places)
        inside = [vocabulary.boi, *(vocabulary.first_code if token is None else token for token in template)]
        fed = range(len(session.pending))
        positions = [session.positions(row, inside) for row in fed]
        self._positions_BL = torch.tensor(positions, device=session.device)
        none = [-1] * len(inside)
        references = [[*session.image_before(row), *none][: len(inside)] for row in fed]
        self._references_BL = torch.tensor(references, device=session.device)
        self._copies, self._count = copies, len(fed)

    def _filled(self, codes_Bn: Tensor) -> Tensor:
        """(B, L) ids; a code beyond the codebook, the mask, becomes pad."""
        vocabulary = self.session.grammar.vocabulary
        ids_BL = self._ids_L.expand(len(codes_Bn), -1).clone()
        ids_BL[:, self._places] = torch.where(
            codes_Bn < vocabulary.n_codes, codes_Bn + vocabulary.first_code, vocabulary.pad
        )
        return ids_BL

    def logits(self, codes_Bn: Tensor) -> Tensor:
        """(B, n, K) of every code, each read one token before its place; with guidance (2 B, n, K)."""
        session, readers = self.session, self._places - 1
        ids_BL = self._filled(codes_Bn).repeat(self._count // len(codes_Bn), 1)
        hidden_BLD = session.peek(ids_BL, self._positions_BL, self._references_BL, self._copies)
        return session.model.logits(hidden_BLD[:, readers], session.grammar.code_ids, self._references_BL[:, readers])

    def finish(self, codes_Bn: Tensor) -> None:
        """Leave boi and the image pending, and record the image as produced."""
        ids_BL = self._filled(codes_Bn).tolist()
        for row in self.rows:
            boi, *inside = ids_BL[row]
            for copy in self.session.copies(row):
                self.session.pending[copy].append(boi)
            for token in inside:
                self.session.choose(row, token)
