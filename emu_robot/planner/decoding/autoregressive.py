"""Images decoded one code at a time, row by row. Ids in, ids out."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from emu_robot.planner.decoding.code_choice import choose_codes
from emu_robot.planner.decoding.sampling import Candidates, RowGenerators, SamplingConfig, guided
from emu_robot.planner.decoding.session import DecodingSession


class AutoregressiveImageDecoder:
    """Chooses one code per pass by `SamplingConfig`; ids that the template fixes cost no pass."""

    def __init__(self, sampling: SamplingConfig, books_PSD: Tensor | None = None) -> None:
        """books_PSD: vectors of the codes, for `SamplingConfig.image_likeness`; without them no codes are alike."""
        self._sampling, self._books_PSD = sampling, books_PSD

    @property
    def guides(self) -> bool:
        return self._sampling.image_guidance != 1

    def decode_image(self, session: DecodingSession, rows: Sequence[int], generators: RowGenerators) -> None:
        """See `ImageDecoder.decode_image`; the last code is left pending."""
        vocabulary, generators = session.grammar.vocabulary, generators.only(rows)
        for fixed in session.grammar.template:
            if fixed is not None:
                for row in rows:
                    session.choose(row, fixed)
                continue
            states = [branch.state() for branch in session.branches]
            codes = choose_codes(session.model, vocabulary, states, partial(self._choose, generators))
            chosen = codes + vocabulary.first_code
            for row in rows:
                session.choose(row, int(chosen[row]))

    def _choose(self, generators: RowGenerators, logits: Sequence[Tensor], book: int) -> Tensor:
        how = self._sampling
        candidates = guided(*logits, scale=how.image_guidance) if self.guides else Candidates.of(*logits)
        if how.image_temperature == 0 and how.image_likeness > 0 and self._books_PSD is not None:
            return candidates.likeliest_look(self._books_PSD[book], how.image_likeness)
        return candidates.sample(how.image_temperature, how.image_top_k, generators)
