"""Why an episode failed, from facts recorded while it ran.

The facts come from an environment that offers `facts() -> dict` with any of these keys; missing ones are not used:
  objects: name -> (3,) position [m];  grasped: name of what is between the fingers ("knob": the drawer's), or None;
  subtask: words of the first subtask still left, or None.
Only what the facts show is claimed: an episode that none of them explains is a timeout.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu_robot.control.episode_loop import Ending, EpisodeResult, Subscriber
from emu_robot.core import Environment, Observation, Transition
from emu_robot.evaluation.records import StepRecord

KINDS = {
    "stopped early": "the policy declared the task complete before it was",
    "wrong plan step": "while the first open subtask was due, the planner mostly asked for another one",
    "wrong object": "an object that the due subtask does not name was grasped, or moved by more than 5 cm",
    "dropped": "the object was grasped and let go without completing the subtask",
    "missed grasp": "the gripper closed and never held anything",
    "no attempt": "the gripper never closed",
    "timeout": "none of the above; the step limit was reached",
}
MOVED_M = 0.05
NEEDS_GRASP = ("put ", "stack ")


class FailureWatch(Subscriber):
    """Keeps the facts of the subtask that is due, starting afresh whenever another becomes due."""

    def __init__(self, environment: Environment) -> None:
        self._read = getattr(environment, "facts", dict)
        self.due: str | None = None
        self.since = 0
        self._start: dict[str, NDArray[np.float64]] = {}
        self.moved: set[str] = set()
        self.grasped: list[str] = []
        self.closed = False

    def on_reset(self, instruction: str, seed: int, observation: Observation) -> None:
        self._enter(0, self._read())

    def on_transition(self, tick: int, action: NDArray[np.float32], transition: Transition) -> None:
        facts = self._read()
        if facts.get("subtask") != self.due:
            self._enter(tick, facts)
        self.closed |= bool(action[-1] < 0.5)
        grasped = facts.get("grasped")
        if grasped is not None and grasped not in self.grasped:
            self.grasped.append(grasped)
        for name, position in facts.get("objects", {}).items():
            start = self._start.get(name)
            if start is not None and np.linalg.norm(np.asarray(position) - start) > MOVED_M:
                self.moved.add(name)

    def _enter(self, tick: int, facts: Mapping[str, Any]) -> None:
        self.due, self.since = facts.get("subtask"), tick
        self._start = {name: np.array(position) for name, position in facts.get("objects", {}).items()}
        self.moved, self.grasped, self.closed = set(), [], False


def classify(result: EpisodeResult, steps: Sequence[StepRecord], watch: FailureWatch) -> tuple[str | None, str | None]:
    """(kind from `KINDS`, one detail) of a failed episode; (None, None) on success."""
    if result.success:
        return None, None
    due = watch.due
    if result.ending is Ending.COMPLETE:
        return "stopped early", due and f"left: {due}"
    pursued = _mostly_pursued(steps, watch.since)
    if due is not None and pursued is not None and pursued != due:
        return "wrong plan step", f"due: {due}; asked for: {pursued}"
    if due is None:
        return "timeout", None
    involved = due.replace("drawer", "drawer knob")
    others = [name for name in watch.grasped if name not in involved]
    if not others and "drawer" not in due:  # a drawer carries what lies in it
        others = [name for name in sorted(watch.moved) if name not in due]
    if others:
        return "wrong object", f"{others[0]} instead of: {due}"
    if not due.startswith(NEEDS_GRASP):
        return "timeout", due
    held = [name for name in watch.grasped if name != "knob"]
    if held:
        return "dropped", f"{held[-1]}, due: {due}"
    return ("missed grasp" if watch.closed else "no attempt"), due


def _mostly_pursued(steps: Sequence[StepRecord], since: int) -> str | None:
    """The words pursued for most ticks since then; None without a planner."""
    ticks: dict[str, int] = {}
    for step in steps:
        if step.subtask is not None and step.last_tick > since:
            ticks[step.subtask] = ticks.get(step.subtask, 0) + step.last_tick - max(step.first_tick, since)
    return max(ticks, key=lambda words: ticks[words]) if ticks else None
