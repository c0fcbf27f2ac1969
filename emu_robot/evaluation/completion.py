"""Measures when a policy holds a subtask reached and its task complete: precision, recall, delay. See `claims`."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from emu_robot.control.chunk_broker import ChunkBroker
from emu_robot.core import PlanStep, Policy, Seeded
from emu_robot.environments.capabilities import JudgesSubtasks, require, step_world
from emu_robot.environments.contract import Environment, open_task
from emu_robot.errors import ConfigError
from emu_robot.evaluation.claims import TOLERANCE_S, ClaimLog, Trace
from emu_robot.evaluation.config import SEED_STRIDE, ClosedLoopConfig
from emu_robot.evaluation.fit import check_fit, with_goal
from emu_robot.evaluation.info import measured_with
from emu_robot.evaluation.kept_results import run_kept
from emu_robot.evaluation.statistics import Proportion
from emu_robot.evaluation.worker import PolicyFactory, load_policy
from emu_robot.evaluation.worlds import Worlds, by_task
from emu_robot.policy.config import GoalMode
from emu_robot.shared.files import replace_json
from emu_robot.shared.progress import progress
from emu_robot.shared.settings import number

PURPOSE = "measuring completion"
PATIENCE_S = 10.0
"""Time that a policy has for its claim after the task is truly complete, also past `max_steps` [s]."""
REACHED, COMPLETE, CONFIRMED = KINDS = "reached", "complete", "confirmed"
"""What is claimed, see `claims`."""
LISTED = 200
"""Most errors that the result lists."""


@dataclass(frozen=True, kw_only=True)
class CompletionConfig(ClosedLoopConfig):
    """Settings of a measurement of completion. It needs a goal mode with the planner's words."""

    n: int = number(40, 1, SEED_STRIDE)
    """Number of episodes."""
    out: Path = Path("outputs/completion")
    """Folder of the results."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.policy == "expert":
            raise ConfigError(f"policy=expert claims nothing; {PURPOSE} needs weights with a planner")
        if self.goal not in (GoalMode.AUTO, GoalMode.PLANNER, GoalMode.TEXT):
            raise ConfigError(f"goal={self.goal} claims nothing of its own; {PURPOSE} needs planner, text or auto")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One pursuit of a subtask, or a whole task up to a declaration that was taken back, or to its end."""

    kind: str
    """One of `KINDS`."""
    index: int
    """Number of the layout."""
    task: str
    """Task of the layout."""
    words: str
    """The subtask that was followed, or the instruction."""
    is_known: bool
    """Whether the words mean something in the scene."""
    held: bool
    """Whether the predicate held at any tick; for a task, at one within its time."""
    came_true: bool
    """Whether it held for half a second, or the claim is true."""
    claimed_s: float | None
    """Time of the claim in the episode [s]."""
    is_true: bool | None
    """Whether the claim is true; None without one."""
    delay_s: float | None
    """Time from the truth to a true claim [s]."""


class CompletionRunner:
    """Plays episodes in one process."""

    def __init__(self, config: CompletionConfig, policy_factory: PolicyFactory[CompletionConfig]) -> None:
        self._config, self._tasks = config, config.selected()
        self._worlds = Worlds(config.suite(), config.split)
        self._make_policy = policy_factory
        self._policy: Policy | None = None

    def run(self, index: int) -> list[Outcome]:
        """Episode `index`: its pursuits, the declarations of the task, and its confirmation last."""
        config, task = self._config, self._tasks[index % len(self._tasks)].name
        world, seed = self._worlds.of(task), config.episode_seed(index)
        if self._policy is None:
            self._policy = self._make_policy(config, _no_source)
        if isinstance(self._policy, Seeded):
            self._policy.seed(seed)
        log = play(world, self._policy, seed, config)
        make = partial(_outcome, hz=world.spec.control_hz, index=index, task=task)
        return [
            *(make(trace, kind=REACHED) for trace in log.pursuits),
            *(make(trace, kind=COMPLETE) for trace in log.declared),
            make(log.confirmed, kind=CONFIRMED, within=world.max_steps),
        ]

    def close(self) -> None:
        """Release the worlds."""
        self._worlds.close()


def play(world: Environment, policy: Policy, seed: int, config: CompletionConfig) -> ClaimLog:
    """Play an episode until the task is confirmed complete.

    It ends without that after `max_steps`, but not within `PATIENCE_S` of the truth while that holds.
    """
    judge, hz = require(world, JudgesSubtasks, PURPOSE), world.spec.control_hz
    observation = world.reset(seed)
    tolerance, confirmations = round(TOLERANCE_S * hz), config.replan.confirmations
    log = ClaimLog(judge, world.instruction, confirmations=confirmations, tolerance=tolerance)
    broker = ChunkBroker(policy, n_action_steps=config.n_action_steps)
    broker.reset(world.instruction)
    tick, true_since = 0, None
    while not log.is_over(tick):
        late = tick >= world.max_steps and (true_since is None or tick >= true_since + PATIENCE_S * hz)
        if late and log.confirmed.claimed is None:
            break
        if broker.needs_observation:
            chunk = broker.refill(observation)
            log.on_chunk(tick, chunk)
        transition = step_world(world, broker.next_action(), observe=broker.needs_observation)
        observation, tick = transition.observation, tick + 1
        true_since = (tick if true_since is None else true_since) if transition.success else None
        log.on_tick(tick, transition.success)
    return log


def completion(
    config: CompletionConfig, policy_factory: PolicyFactory[CompletionConfig] = load_policy
) -> dict[str, Any]:
    """Measure, print the table, write `completion.json` into `config.out` and return it.

    Raises the errors of `check_fit`, and `InvalidValueError` for an environment that does not judge subtasks.
    """
    config = with_goal(config)
    check_fit(config)
    task = config.selected()[0].name
    with closing(open_task(config.suite(), task, config.split)) as world:
        require(world, JudgesSubtasks, PURPOSE)
    runner = partial(CompletionRunner, config, policy_factory)
    outcomes: list[Outcome] = []
    order = by_task(range(config.n), len(config.selected()))
    with (
        progress("measuring completion", config.n) as report,
        closing(run_kept(runner, order, config.workers, config, Outcome, ("head", "planner"))) as results,
    ):
        for some in results:
            outcomes += some
            report("")
    summary = summarise(outcomes)
    replace_json(config.out / "completion.json", summary | measured_with(config))
    _print(summary, config)
    return summary


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """For every kind of claims, over all tasks and by task; success; the false and the missed ones in a list."""
    tasks = dict.fromkeys(outcome.task for outcome in sorted(outcomes, key=lambda one: one.index))
    whole = [one for one in outcomes if one.kind == CONFIRMED]
    wrong = [one for one in outcomes if one.is_true is False or (one.came_true and not one.is_true)]
    return {
        **{kind: _figures([one for one in outcomes if one.kind == kind]) for kind in KINDS},
        "per_task": {
            name: {kind: _figures([one for one in outcomes if (one.kind, one.task) == (kind, name)]) for kind in KINDS}
            for name in tasks
        },
        "success": _proportion([one.held for one in whole]),
        "wrong": [
            {
                "claim": one.kind,
                "error": "false" if one.is_true is False else "missed",
                "index": one.index,
                "task": one.task,
                "words": one.words,
                "claimed_s": one.claimed_s,
            }
            for one in sorted(wrong, key=lambda one: one.index)
        ][:LISTED],
    }


def _no_source() -> PlanStep | None:
    return None


def _outcome(trace: Trace, *, kind: str, hz: int, index: int, task: str, within: int | None = None) -> Outcome:
    """within: tick up to which the truth counts as held; None for all."""
    verdict = trace.judged(round(TOLERANCE_S * hz))
    return Outcome(
        kind=kind,
        index=index,
        task=task,
        words=trace.words,
        is_known=trace.is_known,
        held=any(trace.holds[: None if within is None else within + 1]),
        came_true=verdict.came_true,
        claimed_s=None if trace.claimed is None else trace.claimed / hz,
        is_true=verdict.is_true,
        delay_s=None if verdict.delay is None else verdict.delay / hz,
    )


def _figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    claims = [one for one in outcomes if one.is_true is not None]
    truths = [one for one in outcomes if one.came_true]
    delays = [one.delay_s for one in outcomes if one.delay_s is not None]
    return {
        "precision": _proportion([bool(one.is_true) for one in claims]),
        "recall": _proportion([bool(one.is_true) for one in truths]),
        "delay_s": {
            "median": float(np.median(delays)) if delays else None,
            "p90": float(np.percentile(delays, 90)) if delays else None,
            "n": len(delays),
        },
        "early": sum(delay < 0 for delay in delays),
        "false": sum(not one.is_true for one in claims),
        "missed": sum(not one.is_true for one in truths),
        "of_unknown_words": sum(not one.is_known for one in outcomes),
    }


def _proportion(outcomes: Sequence[bool]) -> dict[str, Any]:
    p = Proportion(sum(outcomes), len(outcomes))
    return {"n_success": p.successes, "n": p.n, "ci95": list(p.interval), "text": str(p)}


def _print(summary: dict[str, Any], config: CompletionConfig) -> None:
    rows = [("all", summary)]
    if len(summary["per_task"]) > 1:
        rows = [*summary["per_task"].items(), *rows]
    for kind in KINDS:
        table = Table(kind, "precision", "recall", "delay, median and p90 [s]", "early", box=None, pad_edge=False)
        for name, figures in rows:
            own = figures[kind]
            delay = own["delay_s"]
            seconds = f"{delay['median']:.2f}, {delay['p90']:.2f}" if delay["n"] else "none"
            shares = [own[share]["text"].replace("[", "\\[") for share in ("precision", "recall")]
            table.add_row(name, *shares, seconds, str(own["early"]))
        Console().print(table)
    print(f"success {summary['success']['text']}")
    print(f"result {config.out / 'completion.json'}")
