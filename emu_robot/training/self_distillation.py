"""Subgoals that the autoregressive planner draws for training queries, for stage dida to learn from.

Its greedy, guided images give one answer per question, where the data hold one of many. The target of a parallel
decoder is then certain.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from emu_robot.planner.decoding.config import Decoder, DecoderConfig
from emu_robot.planner.planner import Planner
from emu_robot.tokenizers.interleave import CodedStep, Codes
from emu_robot.training.drawn_subgoals import Drawn, draw_in_blocks
from emu_robot.training.planner_data import Ints, PlanQueries, ShiftedImages


class DrawnSteps(NamedTuple):
    """Subgoals that the planner has drawn."""

    query: Ints
    """(N,) rows of `PlanQueries`."""
    count: Ints
    """(N,) number of images of each; the rest of `images` is empty."""
    images: Codes
    """(N, 2 + memory, n) codes: the image of the query, those of the tries before the drawn one, the drawn subgoal."""


def draw_steps(
    weights: Path,
    queries: PlanQueries,
    chosen: Ints,
    shifted_images: ShiftedImages | None,
    shift_share: float,
    path: Path,
    seed: int,
) -> DrawnSteps:
    """A subgoal for every `chosen` query, with the true words; kept in `path` for interrupted runs.

    It is the first one after the query's image. A planner that remembers draws later ones, too, and sees the
    true images before. shift_share: share of the queries with images shifted by `shifted_images`.
    """
    planner: list[Planner] = []  # loaded only if subgoals are missing

    def draw(rows: slice) -> Drawn:
        if not planner:
            planner.append(Planner.load(weights, decoder=DecoderConfig(kind=Decoder.AR)))
        asked, memory = chosen[rows], planner[0].config.memory
        rng = np.random.default_rng((seed, rows.start))
        most = 1 + rng.integers(memory + 1, size=len(asked))
        tries = [queries.tries(query, n) for query, n in zip(asked.tolist(), most.tolist(), strict=True)]
        groups = [
            [int(queries.row[q]), *(one.row for one in of[:-1])] for q, of in zip(asked.tolist(), tries, strict=True)
        ]
        seen = [list(queries.codes_Mn[group]) for group in groups]
        if shifted_images is not None:
            moved = np.flatnonzero(rng.random(len(asked)) < shift_share).tolist()
            codes = shifted_images.codes([groups[i] for i in moved], rng.integers(0, 1 << 16, (len(moved), 2)))
            for i, images in zip(moved, codes, strict=True):
                seen[i] = images
        prompts = []
        for query, images, of in zip(asked.tolist(), seen, tries, strict=True):
            past = [CodedStep(one.subtask, image) for one, image in zip(of[:-1], images, strict=False)]
            prompts.append(planner[0].interleaver.prompt(queries.instruction(query), images[-1], past))
        drawn = planner[0].draw(prompts, [of[-1].subtask for of in tries], asked.tolist())
        all_images = np.zeros((len(asked), 2 + memory, drawn.shape[1]), drawn.dtype)
        for row, images, last in zip(all_images, seen, drawn, strict=True):
            row[: len(images) + 1] = [*images, last]
        return {"query": asked, "count": np.array([len(images) + 1 for images in seen]), "images": all_images}

    drawn = draw_in_blocks(path, len(chosen), draw)
    return DrawnSteps(drawn["query"], drawn["count"], drawn["images"])
