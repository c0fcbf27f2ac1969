"""Kinds of failure: those that any policy can show, and those that the environment itself recognises.

A kind is claimed only from facts recorded while the episode ran. An episode without an explanation is a timeout.
"""

from collections.abc import Mapping, Sequence

from emu_robot.control.episode_loop import Ending, EpisodeResult, Subscriber
from emu_robot.core import Floats32, Observation, Transition
from emu_robot.environments.capabilities import FailureWatch as EnvironmentWatch
from emu_robot.environments.capabilities import KnowsFailures, due_subtask
from emu_robot.environments.contract import Environment, EnvironmentSpec
from emu_robot.evaluation.records import StepRecord
from emu_robot.shared.words import folded, same_words

KINDS = {
    "stopped early": "the policy declared the task complete before it was",
    "wrong plan step": "while the first open subtask was due, the planner mostly asked for another one",
    "ended": "none of the others; the environment ended the episode before the step limit",
    "timeout": "none of the others; the step limit was reached",
}


def failure_kinds(spec: EnvironmentSpec) -> Mapping[str, str]:
    """Kind -> meaning of every failure that episodes of this environment can have."""
    return {**spec.failure_kinds, **KINDS}


class FailureWatch(Subscriber):
    """Follows the due subtask and the tick since which it is due, and runs the environment's own watch."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._watch: EnvironmentWatch | None = None
        self.due: str | None = None
        self.since = 0

    def on_reset(self, instruction: str, seed: int, observation: Observation) -> None:
        self.due, self.since = due_subtask(self._environment), 0
        if isinstance(self._environment, KnowsFailures):
            self._watch = self._environment.failure_watch()

    def on_transition(self, tick: int, action: Floats32, transition: Transition) -> None:
        due = due_subtask(self._environment)
        if due != self.due:
            self.due, self.since = due, tick
        if self._watch is not None:
            self._watch.after(action)

    def diagnose(self) -> tuple[str, str] | None:
        """(kind, detail) by the environment's own watch; None if it has no explanation."""
        return self._watch.diagnose() if self._watch is not None else None


def classify(result: EpisodeResult, steps: Sequence[StepRecord], watch: FailureWatch) -> tuple[str | None, str | None]:
    """(kind, detail) of a failed episode; (None, None) on success."""
    if result.success:
        return None, None
    due = watch.due
    if result.ending is Ending.COMPLETE:
        return "stopped early", due and f"left: {due}"
    pursued = _mostly_pursued(steps, watch.since)
    if due is not None and pursued is not None and not same_words(pursued, due):
        return "wrong plan step", f"due: {due}; asked for: {pursued}"
    return watch.diagnose() or ("ended" if result.ending is Ending.ENDED else "timeout", due)


def _mostly_pursued(steps: Sequence[StepRecord], since: int) -> str | None:
    """The words pursued for the most ticks since `since`; None without a planner."""
    ticks: dict[str, int] = {}
    said: dict[str, str] = {}
    for step in steps:
        if step.subtask is not None and step.last_tick > since:
            words = folded(step.subtask)
            said.setdefault(words, step.subtask)
            ticks[words] = ticks.get(words, 0) + step.last_tick - max(step.first_tick, since)
    return said[max(ticks, key=lambda words: ticks[words])] if ticks else None
