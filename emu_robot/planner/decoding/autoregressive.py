"""Images decoded one code at a time, row by row. Ids in, ids out."""

from collections.abc import Sequence

from torch import Tensor

from emu_robot.planner.decoding.sampling import Candidates, RowGenerators, SamplingConfig, guided
from emu_robot.planner.decoding.session import DecodingSession


class AutoregressiveImageDecoder:
    """Chooses one code per pass by `SamplingConfig`; ids that the template fixes cost no pass."""

    def __init__(self, sampling: SamplingConfig, codebook_KD: Tensor | None = None) -> None:
        """codebook_KD: vectors of the codes, for `SamplingConfig.image_likeness`; without them no codes are alike."""
        self._sampling, self._codebook_KD = sampling, codebook_KD

    @property
    def guides(self) -> bool:
        return self._sampling.image_guidance != 1

    def decode_image(self, session: DecodingSession, rows: Sequence[int], generators: RowGenerators) -> None:
        """See `ImageDecoder.decode_image`; the last code is left pending."""
        codes, generators = session.grammar.code_ids, generators.only(rows)
        for fixed in session.grammar.template:
            if fixed is not None:
                for row in rows:
                    session.choose(row, fixed)
                continue
            logits = [branch.logits(codes) for branch in session.branches]
            chosen = self._choose(logits, generators) + codes.start
            for row in rows:
                session.choose(row, int(chosen[row]))

    def _choose(self, logits: Sequence[Tensor], generators: RowGenerators) -> Tensor:
        how = self._sampling
        candidates = guided(*logits, scale=how.image_guidance) if self.guides else Candidates.of(*logits)
        if how.image_temperature == 0 and how.image_likeness > 0 and self._codebook_KD is not None:
            return candidates.likeliest_look(self._codebook_KD, how.image_likeness)
        return candidates.sample(how.image_temperature, how.image_top_k, generators)
