"""Quality of a tokenizer: names of objects in the codes; places of objects and the gripper's state in reconstructions.

Frames come from the scripted expert's runs on evaluation layouts. Objects are located by colour (`centroids`).
A linear probe reads the gripper from the pixels around the fingertips. It is fitted to originals of one half of the
layouts, and tested on originals and reconstructions of the other half.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats, Image, Observation
from emu_robot.environments.capabilities import (
    HasExpert,
    LocatesGripper,
    LocatesObjects,
    require,
    step_world,
    with_images,
)
from emu_robot.environments.contract import Environment
from emu_robot.evaluation.centroids import position_error
from emu_robot.evaluation.config import SEED_STRIDE, LayoutsConfig
from emu_robot.evaluation.info import measured_with
from emu_robot.evaluation.named_objects import LOST_RADIUS, naming_figures
from emu_robot.evaluation.statistics import Proportion
from emu_robot.evaluation.worlds import Worlds, by_task
from emu_robot.shared.files import replace_json
from emu_robot.shared.progress import progress
from emu_robot.shared.settings import number
from emu_robot.tokenizers.object_naming import SeenObject

OPEN, CLOSED = 0.8, 0.6  # gripper opening above, below; a gripper in between moves and is left out
CROP = 12  # [px] half the side of the gripper's crop
RIDGE = 30.0
OBJECTS_SIZE = 128  # [px] of `LocatesObjects.object_pixels`


class Measured(NamedTuple):
    """A tokenizer as it is measured; pictures are (B, H, W, 3) uint8."""

    reconstruct: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    """Pictures -> the same after encoding and decoding."""
    seen_objects: Callable[[NDArray[np.uint8]], list[list[SeenObject]]]
    """Pictures -> what is named in their codes."""
    names_objects: bool = False
    """Whether it names any."""


@dataclass(frozen=True, kw_only=True)
class TokenizerQualityConfig(LayoutsConfig):
    """Settings of a measurement of the image tokenizer."""

    tasks: list[str] = field(default_factory=lambda: ["all"])
    """Tasks or groups of the environment, or "all"."""
    n: int = number(44, 1, SEED_STRIDE)
    """Number of layouts."""
    every: int = number(12, 1)
    """Control ticks between two views."""
    out: Path = Path("outputs/tokenizer_quality")
    """Folder of the results."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One view."""

    image: Image
    """The view of the planner's camera."""
    objects: dict[str, tuple[float, float]]
    """Visible object -> (u, v) [px]."""
    gripper_uv: tuple[float, float]
    """The gripper's (u, v) [px]."""
    opening: float
    """The gripper's opening, in [0, 1]."""
    layout: int
    """Number of the layout."""


def load_tokenizer(config: TokenizerQualityConfig) -> Measured:
    """The tokenizer in the weights `config.policy`."""
    folder = import_module("emu_robot.models.weights").resolve_weights(config.policy)
    tokenizer = import_module("emu_robot.tokenizers.image").ImageTokenizer.load(folder)
    return Measured(
        lambda images: tokenizer.decode_images(tokenizer.encode_images(images)),
        lambda images: tokenizer.seen_objects(tokenizer.encode_images(images)),
        tokenizer.naming is not None,
    )


def tokenizer_quality(
    config: TokenizerQualityConfig,
    load: Callable[[TokenizerQualityConfig], Measured] = load_tokenizer,
) -> dict[str, Any]:
    """Measure, print the lines, write `tokenizer_quality.json` into `config.out` and return it."""
    tokenizer = load(config)
    frames = collect_frames(config)
    images = np.stack([frame.image for frame in frames])
    again = list(tokenizer.reconstruct(images))
    result = {
        "n_frames": len(frames),
        "psnr_db": float(np.mean([psnr(frame.image, image) for frame, image in zip(frames, again, strict=True)])),
        "position_error": object_errors(frames, again),
        "gripper": gripper_readability(frames, again),
    }
    if tokenizer.names_objects:
        result["naming"] = naming_figures(
            [frame.objects for frame in frames], tokenizer.seen_objects(images), OBJECTS_SIZE
        )
    replace_json(config.out / "tokenizer_quality.json", result | measured_with(config))
    if named := result.get("naming"):
        print(f"named from the codes   {named['named']}; another name {named['confused']}; unseen {named['unseen']}")
        print(f"named, but not there   {named['invented']}")
    position, gripper = result["position_error"], result["gripper"]
    print(f"object position error  median {position['median']:.2f} px, 90% below {position['p90']:.2f} px at 128 px")
    print(f"objects lost           {position['lost']}")
    print(f"gripper readable       originals {gripper['originals']}, reconstructions {gripper['reconstructions']}")
    print(f"PSNR                   {result['psnr_db']:.1f} dB over {len(frames)} frames")
    return result


def collect_frames(config: TokenizerQualityConfig) -> list[Frame]:
    """Views along the expert's runs on `config.n` layouts, in the order of the layouts."""
    tasks, worlds = config.selected(), Worlds(config.suite(), config.split)
    frames: dict[int, list[Frame]] = {}
    with progress("collecting views", config.n) as report, closing(worlds):
        for index in by_task(range(config.n), len(tasks)):
            frames[index] = _views(worlds.of(tasks[index % len(tasks)].name), index, config)
            report("")
    return [frame for index in range(config.n) for frame in frames[index]]


def _views(environment: Environment, index: int, config: TokenizerQualityConfig) -> list[Frame]:
    """Every `config.every` ticks of the expert's run on one layout."""
    observation, views = environment.reset(config.episode_seed(index)), []
    expert = require(environment, HasExpert, "measuring a tokenizer").expert()
    for tick in range(environment.max_steps):
        if tick % config.every == 0:
            views.append(_frame(environment, with_images(environment, observation), index))
        transition = step_world(environment, expert.action(), observe=False)
        observation = transition.observation
        if transition.success:
            break
    return views


def object_errors(frames: list[Frame], again: list[Image]) -> dict[str, Any]:
    """Median, 90th percentile and mean of the objects' position errors [px], and the share of lost objects."""
    errors = [
        error
        for frame, image in zip(frames, again, strict=True)
        for uv in frame.objects.values()
        if (error := position_error(frame.image, image, uv, LOST_RADIUS)) is not None
    ]
    return {
        "median": float(np.median(errors)),
        "p90": float(np.percentile(errors, 90)),
        "mean": float(np.mean(errors)),
        "n": len(errors),
        "lost": str(Proportion(sum(error >= LOST_RADIUS for error in errors), len(errors))),
    }


def gripper_readability(frames: list[Frame], again: list[Image]) -> dict[str, Any]:
    """Share of frames that the probe reads right, on originals and on reconstructions of unseen layouts."""
    usable = [k for k, frame in enumerate(frames) if _label(frame) is not None and _inside(frame)]
    train = [k for k in usable if frames[k].layout % 2 == 0]
    test = [k for k in usable if frames[k].layout % 2 == 1]
    labels = np.array([_label(frame) or 0.0 for frame in frames])
    if not test or len(set(labels[train])) < 2:
        return {"originals": "no trials", "reconstructions": "no trials", "n_open": 0}
    originals = np.stack([_crop(frames[k].image, frames[k]) for k in train + test])
    seen, unseen = originals[: len(train)], originals[len(train) :]
    rebuilt = np.stack([_crop(again[k], frames[k]) for k in test])
    read = _fit_probe(seen, labels[train])
    right = {"originals": read(unseen) == labels[test], "reconstructions": read(rebuilt) == labels[test]}
    return {name: str(Proportion(int(some.sum()), len(some))) for name, some in right.items()} | {
        "n_open": int((labels[test] > 0).sum())
    }


def psnr(true: Image, other: Image) -> float:
    """Peak signal-to-noise ratio [dB]."""
    error = np.mean((true.astype(np.float64) - other) ** 2)
    return float(10 * np.log10(255.0**2 / max(error, 1e-9)))


def _frame(environment: Environment, observation: Observation, layout: int) -> Frame:
    camera, purpose = environment.spec.planner_camera, "measuring a tokenizer"
    pixels = require(environment, LocatesObjects, purpose).object_pixels(camera)
    gripper = require(environment, LocatesGripper, purpose)
    return Frame(
        observation.images[camera],
        {name: uv for name, uv in pixels.items() if uv is not None},
        gripper.gripper_pixel(camera),
        gripper.gripper_opening,
        layout,
    )


def _label(frame: Frame) -> float | None:
    """1 open, -1 closed, None in between."""
    return 1.0 if frame.opening > OPEN else -1.0 if frame.opening < CLOSED else None


def _inside(frame: Frame) -> bool:
    (u, v), size = frame.gripper_uv, frame.image.shape[0]
    return CROP <= u < size - CROP and CROP <= v < size - CROP


def _crop(image: Image, frame: Frame) -> Floats:
    u, v = round(frame.gripper_uv[0]), round(frame.gripper_uv[1])
    return image[v - CROP : v + CROP, u - CROP : u + CROP].astype(np.float64).ravel() / 255


def _fit_probe(inputs: Floats, labels: Floats) -> Callable[[NDArray], NDArray]:
    """Balanced ridge regression on +-1 in its dual form; predicts the sign."""
    centre = inputs.mean(axis=0)
    share = np.where(labels > 0, (labels > 0).mean(), (labels < 0).mean())
    offset = np.average(labels, weights=1 / share)
    inner = (inputs - centre) @ (inputs - centre).T
    dual = np.linalg.solve(inner + RIDGE * np.diag(share), labels - offset)
    direction = (inputs - centre).T @ dual
    return lambda some: np.where((some - centre) @ direction + offset > 0, 1.0, -1.0)
