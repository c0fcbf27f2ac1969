"""`emu-robot plan instruction="..." [image=picture.png]`: the planner's steps, as words and as a strip of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emu_robot.cli.options import configure
from emu_robot.core import Image, Observation, Plan
from emu_robot.errors import DataError, InvalidValueError

MARGIN, CAPTION, SCALE = 6, 34, 2


@dataclass(kw_only=True)
class PlanConfig:
    """instruction: null takes the sampled task's own. image: plan from this picture instead of an environment's.

    tasks, split, seed: the scene that the environment sets up. max_steps: steps to plan, null plans to the end.
    """

    weights: str = "mini"
    instruction: str | None = None
    image: Path | None = None
    env: str = "tabletop"
    tasks: tuple[str, ...] = ("long",)
    split: str = "seen"
    seed: int = 10_000_000
    max_steps: int | None = None
    out: Path = Path("outputs/plan.png")

    def __post_init__(self) -> None:
        if self.image is not None and self.instruction is None:
            raise InvalidValueError("instruction= is needed with image=")


def run(arguments: Sequence[str]) -> None:
    """Print the plan as its steps appear, then write the strip."""
    config: PlanConfig | None = configure("plan", arguments)
    if config is None:
        return
    from emu_robot.planner import Planner
    from emu_robot.weights import resolve_weights

    planner = Planner.load(resolve_weights(config.weights))
    camera = planner.config.camera
    observation, instruction = _scene(config, camera)
    stream = planner.stream(observation, instruction, max_steps=config.max_steps)
    print(f"instruction: {instruction}")
    steps = []
    for step in stream:
        steps.append(step)
        print(f"{len(steps):>3}. {step.subtask}", flush=True)
    plan = Plan(instruction=instruction, steps=tuple(steps))
    if plan.is_complete:
        print("the planner holds the task complete")
    save_strip(config.out, observation.images[camera], plan)
    print(f"pictures: {config.out}")


def save_strip(path: Path, current: Image, plan: Plan) -> None:
    """Write `current | subgoal 1 | subgoal 2 ...` with captions as one picture."""
    from PIL import Image as PillowImage
    from PIL import ImageDraw, ImageFont

    panels = [("now", current), *((step.subtask, step.subgoal) for step in plan.steps if step.subgoal is not None)]
    height, width = (SCALE * side for side in current.shape[:2])
    strip = PillowImage.new("RGB", (len(panels) * (width + MARGIN) + MARGIN, height + CAPTION + MARGIN), "white")
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(12)
    for i, (caption, image) in enumerate(panels):
        left = MARGIN + i * (width + MARGIN)
        strip.paste(
            PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.NEAREST), (left, CAPTION)
        )
        draw.text((left, 9), caption if i == 0 else f"{i}. {caption}", fill="black", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    strip.save(path)


def _scene(config: PlanConfig, camera: str) -> tuple[Observation, str]:
    """What is seen, and what is asked for."""
    if config.image is not None:
        state = np.zeros(8, np.float32)  # the planner looks, it does not feel
        return Observation(images={camera: _read_picture(config.image)}, state=state), str(config.instruction)
    from emu_robot.environments import make

    environment = make(config.env, families=config.tasks, split=config.split)
    observation = environment.reset(config.seed)
    environment.close()
    return observation, config.instruction if config.instruction is not None else environment.instruction


def _read_picture(path: Path) -> Image:
    from PIL import Image as PillowImage
    from PIL import UnidentifiedImageError

    try:
        return np.asarray(PillowImage.open(path).convert("RGB"))
    except (FileNotFoundError, UnidentifiedImageError) as error:
        raise DataError(f"{path} is not a picture that can be read") from error
