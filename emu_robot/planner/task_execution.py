"""One task, executed plan by plan: which step is pursued, and when the planner is asked again.

`EmuPolicy` runs it within one process, the planner node under ROS. It never waits, and knows neither the action head
nor a middleware nor threads. Its clock counts chunks.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from emu_robot.core import Image, Observation, PastStep, Plan, PlanStep, PolicyEvent
from emu_robot.errors import EmuRobotError, InvalidValueError
from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.subtask_monitor import SubtaskMonitor
from emu_robot.shared.draws import EpisodeSeed
from emu_robot.shared.words import same_words

SILENCE = 2
"""Time limit of a step whose chunks are not reported, as a multiple of the limit of a step whose chunks are."""


MEMORY = 16
"""Most past steps that a planner is told; a planner may read fewer."""


class PlannerLike(Protocol):
    """The planner that a task needs. The same question with the same seed must get the same answer.

    past: the steps pursued before, oldest first.
    """

    def plan(
        self,
        observation: Observation,
        instruction: str,
        max_steps: int | None = None,
        *,
        seed: int = 0,
        past: Sequence[PastStep] = (),
        doubt: float = 0.0,
    ) -> Plan: ...


@runtime_checkable
class DrawsSubgoals(Protocol):
    """A planner that draws the subgoal of a subtask in any words."""

    def draw_subgoal(self, observation: Observation, subtask: str, *, seed: int) -> Image | None:
        """The image (H, W, 3) after the subtask; None if its steps have no images."""
        ...


class PlanningError(EmuRobotError):
    """The planner failed several times in a row."""


class TaskExecution:
    """One task. While `is_due`, ask `plan`; tell `on_progress` of every chunk of the step; stop when it `is_over`."""

    def __init__(
        self,
        planner: PlannerLike,
        instruction: str,
        config: ReplanConfig,
        *,
        steps_per_chunk: int,
        segment_steps_p90: float,
        clock: Callable[[], float],
        episode: EpisodeSeed,
    ) -> None:
        """steps_per_chunk: actions of a chunk that are executed. segment_steps_p90: 90th percentile of a subtask's
        length [control ticks]. clock: time [chunks]. episode: seed of the plans.

        Raises `InvalidValueError` for an empty instruction.
        """
        if not instruction.strip():
            raise InvalidValueError("the instruction is empty")
        self.instruction = instruction
        self._planner, self._config, self._clock, self._episode = planner, config, clock, episode
        self._monitor = SubtaskMonitor(config, steps_per_chunk=steps_per_chunk, segment_steps_p90=segment_steps_p90)
        self._asked = self._complete = self._failures = 0
        self._due_at = -math.inf
        self._past: deque[PastStep] = deque(maxlen=MEMORY)
        self._end_odds: float | None = None
        self._given = ""
        self.step: PlanStep | None = None
        """The pursued step; None before the first plan and while the task is declared complete."""
        self.subtasks: list[str] = []
        """Subtasks that were begun, in order; a subtask that goes on after a new plan counts once."""
        self.problem = ""
        """Why the last plan failed; empty if it succeeded."""

    @property
    def patience(self) -> float:
        """Time limit of a step whose chunks are not reported [chunks]."""
        return SILENCE * self._monitor.most_chunks

    @property
    def is_over(self) -> bool:
        """Whether the planner has declared the task complete often enough; it is not asked any more."""
        return self._complete >= self._config.confirmations

    @property
    def is_due(self) -> bool:
        """Whether to plan now: at the start, when the step is reached or overdue, when a complete task is due for its
        recheck, or after a failed plan."""
        return not self.is_over and self._clock() >= self._due_at

    def pursue(self, subtask: str) -> None:
        """Let the next plan be this subtask, in a person's words, until it is reached or overdue; empty: the planner's.

        The plan is due at once, also if the task was declared complete.
        """
        self._given, self.step, self._end_odds = subtask.strip(), None, None
        self._complete = self._failures = 0
        self._due_at = -math.inf

    def plan(self, observation: Observation) -> PolicyEvent:
        """Plan from the observation. Returns `PLANNED`, `COMPLETE` or `PLAN_FAILED`.

        When the planner chose the last step, it foresaw whether the task would be complete after it. As far as it
        foresaw that more is left, the odds of a complete task are doubted.

        Raises `PlanningError` after too many failures in a row.
        """
        seed, self._asked = self._episode.of_call("plan", self._asked), self._asked + 1
        try:
            plan = self._ask(observation, seed)
        except EmuRobotError as error:
            return self._fail(error)
        self._failures, self.problem = 0, ""
        if plan.is_complete:
            self._complete, self.step = self._complete + 1, None
            self._due_at = self._clock() + self._config.recheck_chunks
            return PolicyEvent.COMPLETE
        self._complete, self.step, self._end_odds = 0, plan.steps[0], plan.end_odds
        self._past.append(PastStep(observation=observation, subtask=self.step.subtask))
        if not self.subtasks or not same_words(self.subtasks[-1], self.step.subtask):
            self.subtasks.append(self.step.subtask)
        self._monitor.start()
        self._due_at = self._clock() + self.patience
        return PolicyEvent.PLANNED

    def _ask(self, observation: Observation, seed: int) -> Plan:
        """The planner's plan, or the step in a person's words with the image that the planner draws for it."""
        if not self._given:
            doubt, past = max(0.0, -(self._end_odds or 0.0)), tuple(self._past)
            return self._planner.plan(observation, self.instruction, max_steps=1, seed=seed, past=past, doubt=doubt)
        image = None
        if isinstance(self._planner, DrawsSubgoals):
            image = self._planner.draw_subgoal(observation, self._given, seed=seed)
        return Plan(instruction=self.instruction, steps=(PlanStep(subtask=self._given, subgoal=image),))

    def foresee(self, observation: Observation) -> tuple[PlanStep, ...]:
        """The steps that the planner expects after the pursued one, from the observation that it was planned from.

        Asks the planner once more, for a plan as far as it looks ahead, and changes nothing. Empty without a step, for
        one in a person's words, and where the planner would begin with another one.
        """
        if self.step is None or self._given:
            return ()
        seed, past = self._episode.of_call("plan", self._asked - 1), tuple(self._past)[:-1]
        steps = self._planner.plan(observation, self.instruction, seed=seed, past=past).steps
        return steps[1:] if steps and same_words(steps[0].subtask, self.step.subtask) else ()

    def on_progress(self, progress: float) -> tuple[PolicyEvent, ...]:
        """Report a chunk of this step and its progress in [0, 1].

        Returns `REACHED` if the step counts as reached now, `COMPLETE` with it if that declares the task complete, and
        `SWITCHED` or `TIMEOUT` if the step is over; the next plan is due then.
        """
        if self.step is None:
            return ()
        events = self._monitor.update(progress)
        if PolicyEvent.SWITCHED in events or PolicyEvent.TIMEOUT in events:
            self._due_at, self._given = -math.inf, ""
        is_last = self._end_odds is not None and self._end_odds > 0
        if PolicyEvent.REACHED in events and is_last and self._config.confirmations > 1:
            self._complete = 1  # a look at the end confirms it or takes it back
            events = (PolicyEvent.REACHED, PolicyEvent.COMPLETE, *events[1:])
        return events

    def _fail(self, error: EmuRobotError) -> PolicyEvent:
        self._failures, self._due_at, self.problem = self._failures + 1, -math.inf, str(error)
        if self._failures >= self._config.max_failures:
            raise PlanningError(f"{self._failures} plans in a row failed, the last one: {error}") from error
        return PolicyEvent.PLAN_FAILED
