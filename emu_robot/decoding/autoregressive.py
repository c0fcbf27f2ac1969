"""Images decoded one code at a time, row by row. Ids in, ids out."""

from collections.abc import Sequence

import torch

from emu_robot.decoding.sampling import sample
from emu_robot.decoding.session import DecodingSession


class AutoregressiveImageDecoder:
    """One code per pass; ids that the template fixes cost no pass. temperature 0 is greedy."""

    def __init__(self, temperature: float = 0.0, top_k: int = 0) -> None:
        self.temperature, self.top_k = temperature, top_k

    def decode_image(self, session: DecodingSession, rows: Sequence[int], generator: torch.Generator) -> None:
        """See `ImageDecoder.decode_image`; the last code is left pending."""
        codes = session.grammar.code_ids
        for fixed in session.grammar.template:
            if fixed is not None:
                for row in rows:
                    session.choose(row, fixed)
                continue
            logits_BK = session.logits(codes)
            chosen = sample(logits_BK, self.temperature, self.top_k, generator) + codes.start
            for row in rows:
                session.choose(row, int(chosen[row]))
