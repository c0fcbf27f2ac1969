"""What a fine-tuning did, as one page: what was trained on what, how its losses fell, what its planner now plans."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emu_robot.data.prepare import RECORD
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.evaluation.reconstructions import FIGURES, PICTURE
from emu_robot.evaluation.records import read_json
from emu_robot.planner.planner import Planner
from emu_robot.shared.html import file_url, picture_url, write_html
from emu_robot.training.curves import StageMetrics
from emu_robot.training.finetune import FinetuneConfig
from emu_robot.training.loop import select_device
from emu_robot.training.planner_data import Ints, PlanQueries

PAGE = "report.html"
SAMPLES = 6
"""Plans on the page."""
GARBAGE_DB = 18
"""PSNR of reconstructions below which little more than colours is left of a picture [dB]."""


@dataclass(frozen=True, kw_only=True)
class SamplePlan:
    """What is planned at one moment of an episode; pictures as data URLs.

    said: the next subtask by the planner, None if it holds the task complete; due: by the set. present, imagined,
    keyframe: the planner's view, the subgoal, the view once the due subtask was complete.
    """

    episode: int
    instruction: str
    said: str | None
    due: str
    present: str
    imagined: str | None
    keyframe: str


def write_report(config: FinetuneConfig) -> Path:
    """Write report.html into `config.out`, where every training is finished; returns its path."""
    buffer = ReplayBuffer.open(config.out / "data")
    weights, stages = config.out / "weights", {"planner": config.planner, "dida": config.dida, "head": config.head}
    planner = Planner.load(weights, device=select_device(config.planner.loop.device))
    queries = PlanQueries.load(buffer, planner.config.camera, weights)
    moments, held_out = choose(queries, config.planner.holdout, config.dida.holdout)
    return write_html(
        config.out / PAGE,
        Path(__file__).with_name("finetune_report.html.j2"),
        title=f"Fine-tuned on {Path(config.dataset).name}",
        config=config,
        buffer=buffer,
        cameras=json.loads((buffer.path / RECORD).read_text())["cameras"],
        loops={name: stage.loop for name, stage in stages.items()},
        tokenizer=read_json(config.out / FIGURES),
        reconstructions=file_url(config.out / PICTURE),
        garbage_db=GARBAGE_DB,
        stages=[StageMetrics.read(config.out / "run" / name) for name in stages],
        plans=sample_plans(planner, buffer, queries, moments),
        held_out=held_out,
    )


def choose(queries: PlanQueries, *holdouts: float) -> tuple[Ints, bool]:
    """Moments that plans are shown of, spread over the episodes held out from all these trainings, and True.

    From all episodes, and False, if there are none.
    """
    asked = np.flatnonzero(queries.boundary & ~queries.complete)
    pool = asked
    for holdout in holdouts:
        pool = np.intersect1d(pool, queries.split(holdout)[1])
    held_out = len(pool) > 0
    pool = pool if held_out else asked
    return pool[np.unique(np.linspace(0, len(pool) - 1, SAMPLES).round().astype(int))], held_out


def sample_plans(planner: Planner, buffer: ReplayBuffer, queries: PlanQueries, moments: Ints) -> list[SamplePlan]:
    """Ask the planner for the next step at these moments; each must have one."""
    images = buffer.images(planner.config.camera)
    views = [[images[row] for row in queries.image_rows(query, 1)] for query in moments.tolist()]
    instructions = [queries.instruction(query) for query in moments.tolist()]
    steps = planner.next_steps([present for present, _keyframe in views], instructions, moments.tolist())
    return [
        SamplePlan(
            episode=int(queries.episode[query]),
            instruction=instruction,
            said=step.subtask if step else None,
            due=queries.texts(query, 1)[0],
            present=picture_url(present),
            imagined=picture_url(step.subgoal) if step and step.subgoal is not None else None,
            keyframe=picture_url(keyframe),
        )
        for query, instruction, step, (present, keyframe) in zip(moments, instructions, steps, views, strict=True)
    ]
