"""Goal images as the head will meet them: through the image tokenizer, and as the planner draws them."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from emu_robot.core import Observation, Plan
from emu_robot.errors import DataError
from emu_robot.planner import Planner
from emu_robot.tokenizers.image import ImageTokenizer
from emu_robot.training.head_data import FRONT, Demonstrations
from emu_robot.training.head_sampler import GeneratedGoals, Images
from emu_robot.training.progress import TrainingProgress

SAVE_EVERY = 50

type Plans = Callable[[Observation, str, int], Plan]


def reconstructed_goals(data: Demonstrations, weights: Path, block: int = 64) -> Images:
    """Every subtask's keyframe after the image tokenizer in `weights` and back, (K, H, W, 3) uint8."""
    tokenizer, rows = ImageTokenizer.load(weights), data.keyframe_image_K
    blocks = [data.images[FRONT][rows[i : i + block]] for i in range(0, len(rows), block)]
    return np.concatenate([tokenizer.decode_images(tokenizer.encode_images(images)) for images in blocks])


def generated_goals(
    data: Demonstrations, weights: Path, path: Path, count: int, seed: int, plan: Plans | None = None
) -> GeneratedGoals:
    """The planner's subgoals for `count` random subtasks, drawn from their first frames; those it words wrongly are
    left out. Kept in `path`, from which a run that was cut off goes on. plan: instead of the planner in `weights`.
    """
    n_segments = len(data.segments.text_K)
    chosen = np.random.default_rng(seed).permutation(n_segments)[:count]
    images: list[Images] = []
    rows = np.full(n_segments, -1)
    done = _read(path, images, rows)
    if done < len(chosen):
        plan = plan or Planner.load(weights).plan
        with TrainingProgress(path.with_name("generated_goals.jsonl"), "goals", done, len(chosen)) as progress:
            for index in range(done, len(chosen)):
                segment = int(chosen[index])
                image = _draw(data, segment, plan)
                if image is not None:
                    rows[segment] = len(images)
                    images.append(image)
                progress.advance(index + 1)
                if (index + 1) % SAVE_EVERY == 0 or index + 1 == len(chosen):
                    _write(path, images, rows, index + 1)
                    progress.report(index + 1, {"right": len(images) / (index + 1)})
    shape = (0, *data.images[FRONT].shape[1:])
    return GeneratedGoals(np.stack(images) if images else np.zeros(shape, np.uint8), rows)


def _draw(data: Demonstrations, segment: int, plan: Plans) -> Images | None:
    """The planner's subgoal at the start of a subtask, if it names the right one."""
    start = np.searchsorted(data.frame_M, data.segments.start_K[segment])
    observation = Observation(images={FRONT: data.images[FRONT][start]}, state=data.state[data.frame_M[start]])
    steps = plan(observation, data.segments.instruction_K[segment], 1).steps
    return steps[0].subgoal if steps and steps[0].subtask == data.segments.text_K[segment] else None


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
