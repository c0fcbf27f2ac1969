"""How often the planner says the right next subtask, and how near its subgoal is to what then really comes.

The scripted expert plays each layout; before every subtask, and once more when all are done, the planner is asked.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from emu_robot.core import Image, Observation
from emu_robot.evaluation import worker
from emu_robot.evaluation.centroids import position_error
from emu_robot.evaluation.config import LayoutsConfig
from emu_robot.evaluation.info import measured_with
from emu_robot.evaluation.statistics import Proportion
from emu_robot.planner.task_execution import PlannerLike
from emu_robot.robots.spec import PANDA
from emu_robot.shared.draws import draw_seed
from emu_robot.shared.files import replace_json
from emu_robot.shared.parallel import run_parallel
from emu_robot.shared.progress import progress

CHANGED = 24
"""A pixel counts as changed by a subtask when one of its channels moves by more than this, of 255."""
MAX_TICKS = 400
"""Control ticks the expert gets for one subtask."""
CAMERA = PANDA.planner_camera


@dataclass(kw_only=True)
class PlanAccuracyConfig(LayoutsConfig):
    """workers: processes; 0 runs in this one. Answers do not depend on it."""

    n: int = 50
    workers: int = 2
    out: Path = Path("outputs/plan_accuracy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One question to the planner. truth, said: next subtask, None when complete.

    mae: mean absolute error (of 255) of the subgoal on the pixels that the subtask really changes; mae_copy: of the
    present view on the same pixels. position_error: [px] of the moved object in the subgoal.
    """

    family: str
    truth: str | None
    said: str | None
    plan_s: float
    mae: float | None = None
    mae_copy: float | None = None
    position_error: float | None = None


def load_planner(config: PlanAccuracyConfig) -> PlannerLike:
    """The planner that `config` names."""
    folder = import_module("emu_robot.models.weights").resolve_weights(config.policy)
    planner, decoder = import_module("emu_robot.planner.planner").Planner, worker.make_decoder(config)
    return planner.load(folder, decoder=decoder, int8=config.int8)


class PlannerExam:
    """Asks one process's planner."""

    def __init__(self, config: PlanAccuracyConfig, make_planner: Any, make_environment: Any) -> None:
        self._config, self._families = config, config.families()
        self._make_environment = make_environment
        self._environments: dict[str, Any] = {}
        self._planner: PlannerLike = make_planner(config)

    def run(self, index: int) -> list[Query]:
        """All questions on layout `index`; those up to the expert's failure, should it fail."""
        family = self._families[index % len(self._families)]
        if family not in self._environments:
            self._environments[family] = self._make_environment(self._config, family)
        environment = self._environments[family]
        observation = environment.reset(self._config.episode_seed(index))
        queries: list[Query] = []
        while True:
            truth, instruction = environment.current_subtask, environment.instruction
            started = time.monotonic()
            seed = draw_seed("plan", self._config.episode_seed(index), 0, len(queries))
            plan = self._planner.plan(observation, instruction, max_steps=1, seed=seed)
            plan_s = time.monotonic() - started
            said = None if plan.is_complete else plan.steps[0].subtask
            if truth is None:
                return [*queries, Query(family=family, truth=None, said=said, plan_s=plan_s)]
            before, moved = observation.images[CAMERA], environment.task.subtasks[environment.subtask_index].object
            observation = play_subtask(environment)
            if observation is None:
                return queries
            subgoal = None if plan.is_complete or said != truth else plan.steps[0].subgoal
            measured = {} if subgoal is None else _compare(environment, before, subgoal, observation, moved)
            queries.append(Query(family=family, truth=truth, said=said, plan_s=plan_s, **measured))

    def close(self) -> None:
        """Release the environments."""
        for environment in self._environments.values():
            if hasattr(environment, "close"):
                environment.close()


def plan_accuracy(
    config: PlanAccuracyConfig, make_planner: Any = load_planner, make_environment: Any = worker.make_environment
) -> dict[str, Any]:
    """Measure, print the lines, write `plan_accuracy.json` into `config.out` and return it."""
    exam = partial(PlannerExam, config, make_planner, make_environment)
    queries: list[Query] = []
    with progress("asking the planner", config.n) as report:
        for some in run_parallel(exam, range(config.n), config.workers):
            queries += some
            report("")
    summary = summarise(queries)
    replace_json(config.out / "plan_accuracy.json", summary | measured_with(config))
    print(f"next subtask right   {summary['next_subtask']['text']}")
    print(f"completion right     {summary['completion']['text']}")
    for name, unit in (("position_error", "px"), ("mae", "of 255"), ("mae_copy", "of 255"), ("plan_s", "s")):
        if summary[name]["n"]:
            print(f"{name:20} median {summary[name]['median']:.2f}, 90% below {summary[name]['p90']:.2f} {unit}")
    return summary


def summarise(queries: Sequence[Query]) -> dict[str, Any]:
    """Proportions with Wilson intervals, and medians of the image distances (only where the words were right)."""
    steps = [query for query in queries if query.truth is not None]
    ends = [query for query in queries if query.truth is None]
    families = dict.fromkeys(query.family for query in queries)
    wrong = [{"truth": q.truth, "said": q.said, "family": q.family} for q in queries if q.truth != q.said]
    return {
        "next_subtask": _proportion(steps),
        "completion": _proportion(ends),
        "per_family": {name: _proportion([q for q in steps if q.family == name]) for name in families},
        **{name: _spread(queries, name) for name in ("mae", "mae_copy", "position_error", "plan_s")},
        "wrong": wrong[:100],
    }


def play_subtask(environment: Any) -> Observation | None:
    """Let the expert complete the due subtask; the view at its end, None if it fails."""
    expert, index = environment.expert(), environment.subtask_index
    for _ in range(MAX_TICKS):
        environment.step(expert.action(), observe=False)
        if environment.subtask_index > index:
            return environment.observe()
    return None


def _compare(environment: Any, before: Image, subgoal: Image, after: Observation, moved: str | None) -> dict[str, Any]:
    true = after.images[CAMERA].astype(np.float64)
    changed = (np.abs(true - before) > CHANGED).any(axis=2)
    uv = environment.object_pixels(CAMERA).get(moved) if moved else None
    return {
        "mae": float(np.abs(true - subgoal)[changed].mean()) if changed.any() else None,
        "mae_copy": float(np.abs(true - before)[changed].mean()) if changed.any() else None,
        "position_error": None if uv is None else position_error(after.images[CAMERA], subgoal, uv, radius=16.0),
    }


def _proportion(queries: Sequence[Query]) -> dict[str, Any]:
    p = Proportion(sum(query.truth == query.said for query in queries), len(queries))
    return {"n_success": p.successes, "n": p.n, "ci95": list(p.interval), "text": str(p)}


def _spread(queries: Sequence[Query], name: str) -> dict[str, Any]:
    values = [value for query in queries if (value := getattr(query, name)) is not None]
    if not values:
        return {"median": None, "p90": None, "n": 0}
    return {"median": float(np.median(values)), "p90": float(np.percentile(values, 90)), "n": len(values)}
