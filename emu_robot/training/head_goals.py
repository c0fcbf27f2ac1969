"""Goal images that match those at run time: reconstructed by the image tokenizer, or drawn by the planner."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from emu_robot.core import Image, PlanStep
from emu_robot.planner.planner import Planner
from emu_robot.shared.words import same_words
from emu_robot.tokenizers.image import ImageTokenizer
from emu_robot.training.drawn_subgoals import Drawn, draw_in_blocks
from emu_robot.training.head_data import Demonstrations, Ints
from emu_robot.training.head_sampler import GeneratedGoals, Images

type Plans = Callable[[Sequence[Image], Sequence[str], Sequence[int]], Sequence[PlanStep | None]]


def reconstructed_goals(data: Demonstrations, weights: Path, device: torch.device, block: int = 64) -> Images:
    """Every subtask's keyframe, reconstructed by the image tokenizer in `weights`: (K, H, W, 3) uint8."""
    tokenizer, rows = ImageTokenizer.load(weights).to(device), data.keyframe_image_K
    blocks = [data.goal_view[rows[i : i + block]] for i in range(0, len(rows), block)]
    return np.concatenate([tokenizer.decode_images(tokenizer.encode_images(images)) for images in blocks])


def generated_goals(
    data: Demonstrations, weights: Path, path: Path, count: int, seed: int, plan: Plans | None = None
) -> GeneratedGoals:
    """The planner's subgoals for `count` random subtasks, drawn from their first frames. Those with wrong words are
    left out. They are kept in `path`; an interrupted run continues there. plan: replaces `Planner.next_steps`.
    """
    n_segments = len(data.segments.text_K)
    chosen = np.random.default_rng(seed).permutation(n_segments)[:count]
    planner = [] if plan is None else [plan]  # loaded only if subgoals are missing

    def draw(rows: slice) -> Drawn:
        if not planner:
            planner.append(Planner.load(weights).next_steps)
        return _draw(data, chosen[rows], planner[0])

    drawn = draw_in_blocks(path, len(chosen), draw)
    right = drawn["right"]
    rows = np.full(n_segments, -1)
    rows[chosen[right]] = np.arange(right.sum())
    return GeneratedGoals(drawn["images"][right], rows)


def _draw(data: Demonstrations, segments: Ints, plan: Plans) -> Drawn:
    """The planner's subgoal at the start of each subtask, and whether its words are right."""
    starts = data.goal_view[np.searchsorted(data.frame_M, data.segments.start_K[segments])]
    instructions = [data.segments.instruction_K[k] for k in segments]
    steps = plan(list(starts), instructions, segments.tolist())
    texts = [data.segments.text_K[k] for k in segments]
    images, right = np.zeros_like(starts), np.zeros(len(starts), np.bool_)
    for i, (step, text) in enumerate(zip(steps, texts, strict=True)):
        if step is not None and step.subgoal is not None and same_words(step.subtask, text):
            images[i], right[i] = step.subgoal, True
    return {"images": images, "right": right}
