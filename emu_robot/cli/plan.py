"""`emu-robot plan instruction="..." [image=picture.png]`: the planner's steps, as words and as a strip of pictures.

weights: ours by name or folder, or an official Emu3.5 checkpoint by hub id or folder.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from emu_robot.cli.options import configure
from emu_robot.core import Image, Observation, PastStep, Plan, PlanStep
from emu_robot.emu35.answer import End, EndReason, Role, Words
from emu_robot.emu35.config import WorldModelConfig, is_official
from emu_robot.environments import make, suite
from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_robot.observation.image_fit import ImageFit, fit_image
from emu_robot.shared.settings import check_ranges, number

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MARGIN, CAPTION, HEIGHT = 6, 34, 256  # [px]


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Settings of `emu-robot plan`."""

    weights: str = "mini"
    """Released name, weights folder, or an official Emu3.5 checkpoint by hub id or folder."""
    instruction: str | None = None
    """The task in words; null takes the environment's."""
    image: Path | None = None
    """Picture to plan from, with `instruction`; null: the environment's camera."""
    past: tuple[str, ...] = ()
    """Subtasks pursued so far, oldest first; with `past_images`."""
    past_images: tuple[Path, ...] = ()
    """The picture that each of them was planned from; `image` is the present one."""
    fit: ImageFit = ImageFit.pad
    """How a picture is made square for our weights: black borders, its middle, or stretched."""
    env: str = "tabletop"
    """Environment that sets up a scene."""
    tasks: tuple[str, ...] = ()
    """Tasks, or groups of them, for the scene; none means the environment's default."""
    split: str = "seen"
    """One of the environment's splits."""
    seed: int = number(10_000_000, 0)
    """Seed of the scene."""
    max_steps: int | None = number(None, 1)
    """Most steps of the plan; null: the weights' own number, or official.generation.max_images."""
    out: Path = Path("outputs/plan.png")
    """Picture of the plan."""
    official: WorldModelConfig = field(default_factory=WorldModelConfig)
    """How an official checkpoint is loaded and asked."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.instruction is not None and not self.instruction.strip():
            raise InvalidValueError("instruction= is empty; it must say what to do")
        if self.image is not None and self.instruction is None:
            raise InvalidValueError("instruction= is needed with image=")
        if len(self.past) != len(self.past_images):
            raise InvalidValueError(
                f"past= names {len(self.past)} subtasks, past_images= {len(self.past_images)} pictures; each subtask "
                "needs the picture it was planned from"
            )
        if self.past and self.image is None:
            raise InvalidValueError("image= is needed with past=, the picture of now")
        if self.fit is not ImageFit.pad and is_official(self.weights):
            raise InvalidValueError(f"fit={self.fit} changes nothing: official weights see a picture of any shape")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        idle = {}
        if self.image is None:
            idle["fit"] = "image= is not given"
        else:
            idle |= dict.fromkeys(("env", "tasks", "split", "seed"), f"image={self.image} is the scene")
        if not is_official(self.weights):
            idle["official"] = f"weights={self.weights} are no official checkpoint"
        elif self.max_steps is not None:
            idle["official.generation.max_images"] = f"max_steps={self.max_steps}"
        return idle


def run(arguments: Sequence[str]) -> None:
    """Print the plan as its steps appear, then write the strip."""
    config: PlanConfig | None = configure("plan", arguments)
    if config is None:
        return
    check_picture_name(config.out)
    view, instruction, stream = (_official if is_official(config.weights) else _ours)(config)
    print(f"instruction: {instruction}")
    steps: list[PlanStep] = []
    stopped = False
    for part in stream:
        if isinstance(part, str):
            stopped = stopped or part.startswith("stopped: ")
            print(part, flush=True)
            continue
        steps.append(part)
        print(f"{len(steps):>3}. {part.subtask}", flush=True)
    plan = Plan(instruction=instruction, steps=tuple(steps))
    if plan.is_complete and not stopped:
        print("the planner judges the task complete: no step left")
    save_strip(config.out, view, plan)
    print(f"pictures: {config.out}")


def _ours(config: PlanConfig) -> tuple[Image, str, Iterator[PlanStep]]:
    """The picture, the instruction, and the steps as they are decoded."""
    from emu_robot.models.weights import resolve_weights, stage_config
    from emu_robot.planner.planner import Planner, PlannerConfig

    known = stage_config(resolve_weights(config.weights), "planner", PlannerConfig)
    if config.past and not known.memory:
        raise InvalidValueError(f"past= changes nothing: {config.weights} reads the present picture alone")
    camera = known.camera
    observation, instruction = _scene(config, camera)  # a picture that cannot be read is refused at once
    pictures = _past_pictures(config)
    planner = Planner.load(config.weights, int8=True)
    given = observation.images[camera]
    view = fit_image(given, planner.image_size, config.fit)
    if view is not given:
        print(f"fitted: {_size(given)} made {_size(view)} {config.fit.words} (fit={config.fit})")
    seen = replace(observation, images={camera: view})
    fitted = [fit_image(picture, planner.image_size, config.fit) for picture in pictures]
    past = [
        PastStep(observation=replace(observation, images={camera: picture}), subtask=words)
        for words, picture in zip(config.past, fitted, strict=True)
    ]
    return view, instruction, planner.stream(seen, instruction, max_steps=config.max_steps, past=past)


def _official(config: PlanConfig) -> tuple[Image, str, Iterator[PlanStep | str]]:
    from emu_robot.emu35.world_model import load_world_model

    model = load_world_model(config.weights, config.official)
    camera = "picture" if config.image is not None else suite(config.env).spec.planner_camera
    observation, instruction = _scene(config, camera)
    view, settings = observation.images[camera], config.official
    if config.max_steps is not None:
        settings = replace(settings, generation=replace(settings.generation, max_images=config.max_steps))
    first, *after = *_past_pictures(config), view
    past = [*zip(config.past, after, strict=True)]
    return view, instruction, plan_steps(model.generate(instruction, [first], settings, past=past))


def plan_steps(parts: Iterable[Words | Image | End]) -> Iterator[PlanStep | str]:
    """Each picture of an answer with the words before it; words after the last picture are a step without one.

    Lines between the steps hold the model's reasoning, and why the answer stopped before the model ended it.
    """
    words = ""
    for part in parts:
        if isinstance(part, Words):
            if part.role is Role.TEXT:
                words += part.text
            else:
                yield f"{part.role.replace('_', ' ')}: {' '.join(part.text.split())}"
        elif isinstance(part, End):
            said = " ".join(words.split())
            if said and part.reason is not EndReason.MAX_IMAGES:
                yield PlanStep(subtask=said, subgoal=None)
            if not part.is_complete:
                unfinished = said and part.reason is EndReason.MAX_IMAGES
                yield f"stopped: {part.detail}" + (f"; it goes on: {said}" if unfinished else "")
        else:
            yield PlanStep(subtask=" ".join(words.split()) or "(no words)", subgoal=part)
            words = ""


def check_picture_name(path: Path) -> None:
    """Raise `UnknownNameError` if no picture can be written under this name."""
    if path.suffix.lower() not in PICTURES:
        raise UnknownNameError("kind of picture", path.suffix, PICTURES)


def save_strip(path: Path, current: Image, plan: Plan) -> None:
    """Write `current | subgoal 1 | subgoal 2 ...` with captions as one picture."""
    from PIL import Image as PillowImage
    from PIL import ImageDraw, ImageFont

    panels = [("now", current)]
    panels += [(f"{i}. {s.subtask}", s.subgoal) for i, s in enumerate(plan.steps, 1) if s.subgoal is not None]
    width = round(HEIGHT * current.shape[1] / current.shape[0])
    strip = PillowImage.new("RGB", (len(panels) * (width + MARGIN) + MARGIN, HEIGHT + CAPTION + MARGIN), "white")
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(12)
    for i, (caption, image) in enumerate(panels):
        left = MARGIN + i * (width + MARGIN)
        small = image.shape[0] < HEIGHT
        method = PillowImage.Resampling.NEAREST if small else PillowImage.Resampling.LANCZOS
        strip.paste(PillowImage.fromarray(image).resize((width, HEIGHT), method), (left, CAPTION))
        words = " ".join(caption.split())
        while font.getlength(words) > width:
            words = words.removesuffix("…")[:-1] + "…"
        draw.text((left, 9), words, fill="black", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    strip.save(path)


def _past_pictures(config: PlanConfig) -> list[Image]:
    from emu_robot.observation.image_file import open_picture

    return [open_picture(path)[0] for path in config.past_images]


def _scene(config: PlanConfig, camera: str) -> tuple[Observation, str]:
    """The observation and the instruction."""
    if config.image is not None:
        from emu_robot.observation.image_file import open_picture

        image, turned = open_picture(config.image)
        print(f"picture: {config.image}, {_size(image)}{', turned as its EXIF data say' if turned else ''}")
        state = np.zeros(8, np.float32)  # the planner uses pictures alone
        return Observation(images={camera: image}, state=state), str(config.instruction)
    known = suite(config.env).spec.cameras
    if camera not in known:
        raise UnknownNameError(f"camera of environment {config.env}", camera, known)
    with closing(make(config.env, tasks=config.tasks, split=config.split)) as environment:
        observation = environment.reset(config.seed)
        return observation, config.instruction if config.instruction is not None else environment.instruction


def _size(image: Image) -> str:
    """Width and height, for instance "666 x 920"."""
    return f"{image.shape[1]} x {image.shape[0]}"
