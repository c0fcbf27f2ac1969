"""Accuracy of the planner: share of right next subtasks, distance of its subgoals from the true images.

The scripted expert plays each layout. The planner is asked before every subtask, and once more when all are done.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from emu_robot.core import Image, Observation, PastStep
from emu_robot.environments.capabilities import (
    HasExpert,
    HasSubtasks,
    KeepsCompositions,
    LocatesObjects,
    due_subtask,
    require,
    step_world,
    with_images,
)
from emu_robot.environments.contract import Environment
from emu_robot.evaluation import worker
from emu_robot.evaluation.centroids import position_error
from emu_robot.evaluation.config import SEED_STRIDE, PlannedLayoutsConfig
from emu_robot.evaluation.fit import check_planner
from emu_robot.evaluation.info import measured_with
from emu_robot.evaluation.kept_results import run_kept
from emu_robot.evaluation.statistics import Proportion
from emu_robot.evaluation.worlds import Worlds, by_task
from emu_robot.planner.task_execution import PlannerLike
from emu_robot.shared.draws import draw_seed
from emu_robot.shared.files import replace_json
from emu_robot.shared.progress import progress
from emu_robot.shared.settings import number
from emu_robot.shared.words import same_words

CHANGED = 24
"""A subtask changes a pixel if one of its channels moves by more than this, of 255."""
MAX_TICKS = 400
"""Control ticks that the expert has for one subtask."""


@dataclass(frozen=True, kw_only=True)
class PlanAccuracyConfig(PlannedLayoutsConfig):
    """Settings of a measurement of the planner on its own."""

    n: int = number(50, 1, SEED_STRIDE)
    """Number of layouts."""
    workers: int = number(2, 0)
    """Worker processes; 0 runs in the calling one. Results do not depend on it."""
    out: Path = Path("outputs/plan_accuracy")
    """Folder of the results."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One question to the planner, and its answer."""

    task: str
    """Task of the layout."""
    truth: str | None
    """The true next subtask; None when the task is complete."""
    said: str | None
    """The planner's next subtask; None if it judges the task complete."""
    plan_s: float
    """Duration of the plan [s]."""
    is_unnamed: bool = False
    """Whether the instruction does not name the object to handle, so that the planner has to look."""
    composition: str | None = None
    """Composition of the true next subtask that the split keeps from demonstrations."""
    mae: float | None = None
    """Mean absolute error of the subgoal, of 255, on the pixels that the subtask changes."""
    mae_copy: float | None = None
    """The same error of the present view, in place of the subgoal."""
    position_error: float | None = None
    """Distance of the moved object in the subgoal from its true place [px]."""


def load_planner(config: PlanAccuracyConfig) -> PlannerLike:
    """The planner in the weights `config.policy`."""
    folder = import_module("emu_robot.models.weights").resolve_weights(config.policy)
    planner, decoder = import_module("emu_robot.planner.planner").Planner, worker.make_decoder(config)
    return planner.load(folder, decoder=decoder, int8=config.int8)


class PlannerExam:
    """Examines the planner in one process."""

    def __init__(self, config: PlanAccuracyConfig, make_planner: Any) -> None:
        self._config, self._tasks = config, config.selected()
        self._worlds = Worlds(config.suite(), config.split)
        self._planner: PlannerLike = make_planner(config)

    def run(self, index: int) -> list[Query]:
        """All questions on layout `index`, up to the expert's failure if it fails."""
        task = self._tasks[index % len(self._tasks)].name
        environment = self._worlds.of(task)
        require(environment, HasSubtasks, "measuring plans")
        camera = environment.spec.planner_camera
        observation = environment.reset(self._config.episode_seed(index))
        queries: list[Query] = []
        past: list[PastStep] = []
        while True:
            truth, instruction = due_subtask(environment), environment.instruction
            started = time.monotonic()
            seed = draw_seed("plan", self._config.episode_seed(index), 0, len(queries))
            plan = self._planner.plan(observation, instruction, max_steps=1, seed=seed, past=past)
            plan_s = time.monotonic() - started
            said = None if plan.is_complete else plan.steps[0].subtask
            if truth is None:
                return [*queries, Query(task=task, truth=None, said=said, plan_s=plan_s)]
            before = observation.images[camera]
            kept = environment.due_composition if isinstance(environment, KeepsCompositions) else None
            moved = environment.due_object if isinstance(environment, LocatesObjects) else None
            past = [*past, PastStep(observation=observation, subtask=truth)]
            observation = play_subtask(environment)
            if observation is None:
                return queries
            subgoal = None if plan.is_complete or not same_words(said, truth) else plan.steps[0].subgoal
            measured = {} if subgoal is None else _compare(environment, before, subgoal, observation, moved)
            unnamed = moved is not None and moved.casefold() not in instruction.casefold()
            about: dict[str, Any] = {"task": task, "plan_s": plan_s, "composition": kept, "is_unnamed": unnamed}
            queries.append(Query(truth=truth, said=said, **about, **measured))

    def close(self) -> None:
        """Release the worlds."""
        self._worlds.close()


def plan_accuracy(config: PlanAccuracyConfig, make_planner: Any = load_planner) -> dict[str, Any]:
    """Measure, print the lines, write `plan_accuracy.json` into `config.out` and return it.

    Raises `WeightsError` or `ConfigError` if the weights do not fit, `InvalidValueError` without expert and subtasks.
    """
    check_planner(config)
    exam = partial(PlannerExam, config, make_planner)
    queries: list[Query] = []
    order = by_task(range(config.n), len(config.selected()))
    with (
        progress("asking the planner", config.n) as report,
        closing(run_kept(exam, order, config.workers, config, Query)) as results,
    ):
        for some in results:
            queries += some
            report("")
    summary = summarise(queries)
    replace_json(config.out / "plan_accuracy.json", summary | measured_with(config))
    print(f"next subtask right   {summary['next_subtask']['text']}")
    if summary["unnamed_objects"]["n"]:
        print(f"  object not named   {summary['unnamed_objects']['text']}")
    if summary["per_composition"]:
        print(f"kept compositions    {summary['kept_compositions']['text']}")
        for name, figures in summary["per_composition"].items():
            print(f"  {name:28} {figures['n_success']} of {figures['n']}")
    print(f"completion right     {summary['completion']['text']}")
    for name, unit in (("position_error", "px"), ("mae", "of 255"), ("mae_copy", "of 255"), ("plan_s", "s")):
        if summary[name]["n"]:
            print(f"{name:20} median {summary[name]['median']:.2f}, 90% below {summary[name]['p90']:.2f} {unit}")
    return summary


def summarise(queries: Sequence[Query]) -> dict[str, Any]:
    """Proportions with Wilson intervals, and medians of the image distances of steps with the right words."""
    steps = [query for query in queries if query.truth is not None]
    ends = [query for query in queries if query.truth is None]
    tasks = dict.fromkeys(query.task for query in queries)
    kept = sorted({query.composition for query in steps if query.composition})
    wrong = [{"truth": q.truth, "said": q.said, "task": q.task} for q in queries if not same_words(q.truth, q.said)]
    return {
        "next_subtask": _proportion(steps),
        "unnamed_objects": _proportion([q for q in steps if q.is_unnamed]),
        "completion": _proportion(ends),
        "per_task": {name: _proportion([q for q in steps if q.task == name]) for name in tasks},
        "kept_compositions": _proportion([q for q in steps if q.composition]),
        "per_composition": {name: _proportion([q for q in steps if q.composition == name]) for name in kept},
        **{name: _spread(queries, name) for name in ("mae", "mae_copy", "position_error", "plan_s")},
        "wrong": wrong[:100],
    }


def play_subtask(environment: Environment) -> Observation | None:
    """Let the expert complete the due subtask. Returns the view at its end, None if it fails."""
    told = require(environment, HasSubtasks, "measuring plans")
    expert, index = require(environment, HasExpert, "measuring plans").expert(), told.subtask_index
    for _ in range(MAX_TICKS):
        transition = step_world(environment, expert.action(), observe=False)
        if told.subtask_index > index:
            return with_images(environment, transition.observation)
    return None


def _compare(
    environment: Environment, before: Image, subgoal: Image, after: Observation, moved: str | None
) -> dict[str, Any]:
    camera = environment.spec.planner_camera
    true = after.images[camera].astype(np.float64)
    changed = (np.abs(true - before) > CHANGED).any(axis=2)
    uv = environment.object_pixels(camera).get(moved) if moved and isinstance(environment, LocatesObjects) else None
    return {
        "mae": float(np.abs(true - subgoal)[changed].mean()) if changed.any() else None,
        "mae_copy": float(np.abs(true - before)[changed].mean()) if changed.any() else None,
        "position_error": None if uv is None else position_error(after.images[camera], subgoal, uv, radius=16.0),
    }


def _proportion(queries: Sequence[Query]) -> dict[str, Any]:
    return Proportion(sum(same_words(query.truth, query.said) for query in queries), len(queries)).figures


def _spread(queries: Sequence[Query], name: str) -> dict[str, Any]:
    values = [value for query in queries if (value := getattr(query, name)) is not None]
    if not values:
        return {"median": None, "p90": None, "n": 0}
    return {"median": float(np.median(values)), "p90": float(np.percentile(values, 90)), "n": len(values)}
