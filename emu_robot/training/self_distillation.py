"""Subgoals that the autoregressive planner draws for training queries, for stage dida to learn from.

Its greedy, guided images give one answer per question, where the data hold one of many. The target of a parallel
decoder is then certain.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from emu_robot.planner.decoding.config import Decoder, DecoderConfig
from emu_robot.planner.planner import Planner
from emu_robot.tokenizers.interleave import Codes
from emu_robot.training.drawn_subgoals import Drawn, draw_in_blocks
from emu_robot.training.planner_data import Ints, PlanQueries, ShiftedImages


class DrawnSteps(NamedTuple):
    """Subgoals that the planner has drawn."""

    query: Ints
    """(N,) rows of `PlanQueries`."""
    images: Codes
    """(N, 2, n) codes of the present image and of the drawn subgoal."""


def draw_steps(
    weights: Path,
    queries: PlanQueries,
    chosen: Ints,
    shifted_images: ShiftedImages | None,
    shift_share: float,
    path: Path,
    seed: int,
) -> DrawnSteps:
    """The next subgoal of every `chosen` query, with the true words; kept in `path` for interrupted runs.

    shift_share: share of the queries with images shifted by `shifted_images`.
    """
    planner: list[Planner] = []  # loaded only if subgoals are missing

    def draw(rows: slice) -> Drawn:
        if not planner:
            planner.append(Planner.load(weights, decoder=DecoderConfig(kind=Decoder.AR)))
        asked = chosen[rows]
        rng = np.random.default_rng((seed, rows.start))
        now = [queries.current_codes(query) for query in asked]
        if shifted_images is not None:
            moved = np.flatnonzero(rng.random(len(asked)) < shift_share).tolist()
            groups = [[int(queries.row[asked[i]])] for i in moved]
            codes = shifted_images.codes(groups, rng.integers(0, 1 << 16, (len(moved), 2)))
            for i, (image,) in zip(moved, codes, strict=True):
                now[i] = image
        instructions = map(queries.instruction, asked)
        prompts = [planner[0].interleaver.prompt(words, image) for words, image in zip(instructions, now, strict=True)]
        drawn = planner[0].draw(prompts, [queries.texts(query, 1)[0] for query in asked], asked.tolist())
        return {"query": asked, "images": np.stack([now, drawn], 1)}

    drawn = draw_in_blocks(path, len(chosen), draw)
    return DrawnSteps(drawn["query"], drawn["images"])
