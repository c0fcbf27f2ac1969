"""The report of a fine-tuning, one page: data and weights, losses, sample plans."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emu_robot.data.prepare import RECORD
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.evaluation.reconstructions import Kept
from emu_robot.evaluation.records import read_json
from emu_robot.planner.planner import Planner
from emu_robot.shared.html import file_url, picture_url, write_html
from emu_robot.shared.words import same_words
from emu_robot.training.curves import StageMetrics
from emu_robot.training.finetune import FinetuneConfig
from emu_robot.training.goal_choice import RECORD as GOALS
from emu_robot.training.holdout import spread
from emu_robot.training.loop import select_device
from emu_robot.training.planner_data import Ints, PlanQueries
from emu_robot.training.tokenizer_choice import PICTURE
from emu_robot.training.tokenizer_choice import RECORD as TOKENIZER

PAGE = "report.html"
SAMPLES = 6
"""Number of plans on the page."""


@dataclass(frozen=True, kw_only=True)
class SamplePlan:
    """The plan at one moment of an episode. Pictures are data URLs."""

    episode: int
    """Number of the episode."""
    instruction: str
    """The task in words."""
    said: str | None
    """The planner's next subtask; None if it judges the task complete."""
    due: str
    """The next subtask in the data set."""
    present: str
    """The planner's view."""
    imagined: str | None
    """The planner's subgoal."""
    keyframe: str
    """The view at the end of the due subtask."""

    @property
    def right(self) -> bool:
        """Whether the planner's words are those of the set."""
        return same_words(self.said, self.due)


def write_report(config: FinetuneConfig) -> Path:
    """Write report.html into `config.out`, where every training is finished. Returns its path."""
    buffer = ReplayBuffer.open(config.out / "data")
    prepared = json.loads((buffer.path / RECORD).read_text())
    weights, stages = config.out / "weights", {"planner": config.planner, "dida": config.dida, "head": config.head}
    tokenizer = {"clusters": False, "better": False, "after": None} | read_json(config.out / TOKENIZER)
    used = Kept(**tokenizer["after" if tokenizer["better"] else "before"])
    planner = Planner.load(weights, device=select_device(config.planner.loop.device))
    queries = PlanQueries.load(buffer, planner.config.camera, weights)
    moments, held_out = choose(queries, config.planner.holdout, config.dida.holdout)
    return write_html(
        config.out / PAGE,
        Path(__file__).with_name("finetune_report.html.j2"),
        title=f"Fine-tuned on {Path(config.dataset).name}",
        config=config,
        buffer=buffer,
        cameras=prepared["cameras"],
        notes=prepared["notes"],
        loops={name: stage.loop for name, stage in stages.items()},
        tokenizer=tokenizer,
        goals=read_json(config.out / GOALS),
        shortcomings=config.tokenizer.shortcomings(used),
        reconstructions=file_url(config.out / PICTURE),
        stages=[StageMetrics.read(config.out / "run" / name) for name in stages],
        plans=sample_plans(planner, buffer, queries, moments),
        held_out=held_out,
    )


def choose(queries: PlanQueries, *holdouts: float) -> tuple[Ints, bool]:
    """Moments of the sample plans, and whether they are held out.

    They are spread over the episodes held out from all these trainings; without such episodes, over all.
    """
    asked = np.flatnonzero(queries.boundary & ~queries.complete)
    pool = asked
    for holdout in holdouts:
        pool = np.intersect1d(pool, queries.split(holdout)[1])
    held_out = len(pool) > 0
    pool = pool if held_out else asked
    return spread(pool, SAMPLES), held_out


def sample_plans(planner: Planner, buffer: ReplayBuffer, queries: PlanQueries, moments: Ints) -> list[SamplePlan]:
    """Ask the planner for the next step at these moments; each must have a true next step."""
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
