"""Measures the world model without execution: it imagines each subtask from its own image of the subtask before.

The scripted expert then executes the same subtasks. Every object that the camera sees is located in the imagined image:
its drift, and whether it is lost. The first image serves as the baseline.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from emu_robot.core import Image, Observation
from emu_robot.environments.capabilities import HasSubtasks, LocatesObjects, PlaysChains, require
from emu_robot.environments.contract import open_task
from emu_robot.evaluation.centroids import position_error
from emu_robot.evaluation.config import SEED_STRIDE, PlannedLayoutsConfig
from emu_robot.evaluation.fit import check_planner
from emu_robot.evaluation.info import measured_with
from emu_robot.evaluation.kept_results import run_kept
from emu_robot.evaluation.plan_accuracy import load_planner, play_subtask
from emu_robot.evaluation.statistics import Proportion
from emu_robot.evaluation.video import Clip
from emu_robot.shared.files import replace_json
from emu_robot.shared.progress import progress
from emu_robot.shared.settings import number

RADIUS = 16.0
"""An object further than this from its true place counts as lost [px]."""
PANEL, CAPTION = 192, 22  # [px]


class Imagines(Protocol):
    """The part of a planner that is measured here."""

    def imagine(self, observation: Observation, subtasks: Sequence[str], *, seed: int) -> Iterator[Image]: ...


@dataclass(frozen=True, kw_only=True)
class ImagineConfig(PlannedLayoutsConfig):
    """Settings of a long plan without motion. Every scene has a chain of subtasks of its own."""

    n: int = number(50, 1, SEED_STRIDE)
    """Number of scenes."""
    workers: int = number(2, 0)
    """Worker processes; 0 runs in the calling one."""
    pictures: int = number(6, 0)
    """Number of scenes with a strip and a clip."""
    out: Path = Path("outputs/imagine")
    """Folder of the results."""

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        return super().without_effect() | {"tasks": "every scene has a chain of subtasks of its own"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """One object at one step."""

    depth: int
    """Steps imagined so far."""
    error: float
    """Distance from its true place in the imagined image [px]; `RADIUS` if it is lost."""
    still: float
    """The same distance in the first image [px]."""


class Imagination:
    """Imagines and checks scenes in one process."""

    def __init__(self, config: ImagineConfig, make_planner: Any) -> None:
        self._config = config
        self._planner: Imagines = make_planner(config)
        self._environment = open_task(config.suite(), config.selected()[0].name, config.split)

    def run(self, index: int) -> list[Sighting]:
        """Every object at every step of scene `index`, up to the expert's failure if it fails."""
        config, environment = self._config, self._environment
        camera, purpose, seed = environment.spec.planner_camera, "looking ahead", config.episode_seed(index)
        places = require(environment, LocatesObjects, purpose)
        observation = require(environment, PlaysChains, purpose).reset_chain(seed)
        texts = require(environment, HasSubtasks, purpose).subtasks
        now, imagined = observation.images[camera], self._planner.imagine(observation, texts, seed=seed)
        sightings, frames = [], [("now", now, now)]
        for depth, (text, image) in enumerate(zip(texts, imagined, strict=True), 1):
            after = play_subtask(environment)
            if after is None:
                break
            true = after.images[camera]
            frames.append((text, true, image))
            for uv in places.object_pixels(camera).values():
                error, still = (uv and position_error(true, picture, uv, RADIUS) for picture in (image, now))
                if error is not None and still is not None:
                    sightings.append(Sighting(depth=depth, error=error, still=still))
        if index < config.pictures:
            save_pictures(config.out / f"{index:03}", frames)
        return sightings

    def close(self) -> None:
        """Release the environment."""
        self._environment.close()


def imagination(config: ImagineConfig, make_planner: Any = load_planner) -> dict[str, Any]:
    """Measure, print one line per depth, write `imagination.json` into `config.out` and return it.

    Raises `WeightsError` or `ConfigError` if the weights do not fit, `InvalidValueError` for an environment without
    chains.
    """
    check_planner(config)
    runner = partial(Imagination, config, make_planner)
    sightings: list[Sighting] = []
    with (
        progress("imagining", config.n) as report,
        closing(run_kept(runner, range(config.n), config.workers, config, Sighting)) as results,
    ):
        for scene in results:
            sightings += scene
            report("")
    summary = summarise(sightings)
    replace_json(config.out / "imagination.json", summary | measured_with(config))
    for row in summary["depths"]:
        print(
            f"after {row['depth']} imagined steps  objects found {row['found']['text']}, "
            f"median {row['median_px']:.2f} px off; in the first image {row['still']['text']}"
        )
    if config.pictures:
        print(f"strips and clips: {config.out}")
    return summary


def summarise(sightings: Sequence[Sighting]) -> dict[str, Any]:
    """Per depth: share of objects found, errors of all (a lost one has `RADIUS`), share found in the first image."""
    rows = []
    for depth in sorted({sighting.depth for sighting in sightings}):
        seen = [sighting for sighting in sightings if sighting.depth == depth]
        errors, still = (np.array([getattr(sighting, name) for sighting in seen]) for name in ("error", "still"))
        rows.append(
            {
                "depth": depth,
                "found": _proportion(int((errors < RADIUS).sum()), len(errors)),
                "median_px": float(np.median(errors)),
                "p90_px": float(np.percentile(errors, 90)),
                "still": _proportion(int((still < RADIUS).sum()), len(still)),
            }
        )
    return {"depths": rows}


def save_pictures(stem: Path, frames: Sequence[tuple[str, Image, Image]]) -> None:
    """Write `stem`.png, true images above imagined ones, and `stem`.mp4 with one second per step."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    font, height = ImageFont.load_default(12), CAPTION + 2 * PANEL
    strip = PillowImage.new("RGB", (len(frames) * PANEL, height), "white")
    clip = Clip(stem.with_suffix(".mp4"), fps=10)
    for i, (text, true, image) in enumerate(frames):
        column = PillowImage.new("RGB", (PANEL, height), "white")
        words = f"{i}. {text}" if i else text
        while font.getlength(words) > PANEL - 8:
            words = words.removesuffix("…")[:-1] + "…"
        ImageDraw.Draw(column).text((4, 4), words, fill="black", font=font)
        for row, picture in enumerate((true, image)):
            scaled = PillowImage.fromarray(picture).resize((PANEL, PANEL), PillowImage.Resampling.NEAREST)
            column.paste(scaled, (0, CAPTION + row * PANEL))
        strip.paste(column, (i * PANEL, 0))
        for _ in range(10):
            clip.add(np.asarray(column))
    strip.save(stem.with_suffix(".png"))
    clip.close()


def _proportion(successes: int, n: int) -> dict[str, Any]:
    return Proportion(successes, n).figures
