"""Goal images as the head will meet them: through the image tokenizer, and as the planner draws them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from emu_robot.core import Image, PlanStep
from emu_robot.errors import DataError
from emu_robot.planner import Planner
from emu_robot.tokenizers.image import ImageTokenizer
from emu_robot.training.head_data import FRONT, Demonstrations, Ints
from emu_robot.training.head_sampler import GeneratedGoals, Images
from emu_robot.training.progress import TrainingProgress

BLOCK = 32
"""Subtasks that are planned together."""
SAVE_EVERY = 4 * BLOCK

type Plans = Callable[[Sequence[Image], Sequence[str]], Sequence[PlanStep | None]]


def reconstructed_goals(data: Demonstrations, weights: Path, block: int = 64) -> Images:
    """Every subtask's keyframe after the image tokenizer in `weights` and back, (K, H, W, 3) uint8."""
    tokenizer, rows = ImageTokenizer.load(weights), data.keyframe_image_K
    blocks = [data.images[FRONT][rows[i : i + block]] for i in range(0, len(rows), block)]
    return np.concatenate([tokenizer.decode_images(tokenizer.encode_images(images)) for images in blocks])


def generated_goals(
    data: Demonstrations, weights: Path, path: Path, count: int, seed: int, plan: Plans | None = None
) -> GeneratedGoals:
    """The planner's subgoals for `count` random subtasks, drawn from their first frames; those it words wrongly are
    left out. Kept in `path`, from which a run that was cut off goes on. plan: like `Planner.next_steps`, which it
    replaces.
    """
    n_segments = len(data.segments.text_K)
    chosen = np.random.default_rng(seed).permutation(n_segments)[:count]
    images: list[Images] = []
    rows = np.full(n_segments, -1)
    done = _read(path, images, rows)
    if done < len(chosen):
        plan = plan or Planner.load(weights).next_steps
        with TrainingProgress(path.with_name("generated_goals.jsonl"), "goals", done, len(chosen)) as progress:
            for begin in range(done, len(chosen), BLOCK):
                segments = chosen[begin : begin + BLOCK]
                for segment, image in zip(segments, _draw(data, segments, plan), strict=True):
                    if image is not None:
                        rows[segment] = len(images)
                        images.append(image)
                drawn = begin + len(segments)
                progress.advance(drawn)
                if drawn % SAVE_EVERY == 0 or drawn == len(chosen):
                    _write(path, images, rows, drawn)
                    progress.report(drawn, {"right": len(images) / drawn})
    shape = (0, *data.images[FRONT].shape[1:])
    return GeneratedGoals(np.stack(images) if images else np.zeros(shape, np.uint8), rows)


def _draw(data: Demonstrations, segments: Ints, plan: Plans) -> list[Images | None]:
    """The planner's subgoal at the start of each subtask, if it names the right one."""
    starts = np.searchsorted(data.frame_M, data.segments.start_K[segments])
    steps = plan(list(data.images[FRONT][starts]), [data.segments.instruction_K[k] for k in segments])
    right = [data.segments.text_K[k] for k in segments]
    return [
        step.subgoal if step is not None and step.subtask == text else None
        for step, text in zip(steps, right, strict=True)
    ]


def _write(path: Path, images: list[Images], rows: np.ndarray, done: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez(file, images=np.array(images, np.uint8), rows=rows, done=done)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _read(path: Path, images: list[Images], rows: np.ndarray) -> int:
    """Fill in what an earlier run drew; how many subtasks it had tried."""
    if not path.exists():
        return 0
    try:
        with np.load(path, allow_pickle=False) as file:
            rows[:] = file["rows"]
            images.extend(file["images"])
            return int(file["done"])
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not the planner's goals for this replay buffer ({error})") from error
