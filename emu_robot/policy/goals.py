"""One planner for each `GoalMode`, so that a task can ask any source of steps. Knows neither head nor weights."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from emu_robot.core import Image, Observation, PastStep, Plan, PlanStep
from emu_robot.errors import ConfigError
from emu_robot.planner.task_execution import PlannerLike
from emu_robot.policy.config import GoalMode

type SubgoalSource = Callable[[], PlanStep | None]
"""Returns the step to pursue now, from outside the policy; None when the task is done."""


def goal_planner(goal: GoalMode, planner: PlannerLike | None, source: SubgoalSource | None) -> PlannerLike:
    """The planner of a goal mode. Raises `ConfigError` if the planner or the source that it needs is missing."""
    match goal:
        case GoalMode.PLANNER:
            return _needed(goal, "planner", planner)
        case GoalMode.TEXT:
            return WordsAlone(_needed(goal, "planner", planner))
        case GoalMode.ORACLE:
            return GivenSteps(_needed(goal, "subgoal_source", source))
        case GoalMode.SHUFFLED:
            return OtherImages(_needed(goal, "planner", planner), _needed(goal, "subgoal_source", source))
        case GoalMode.NONE:
            return WholeInstruction()
        case GoalMode.AUTO:
            raise ConfigError("goal=auto names no mode; the weights do")


def _needed[T](goal: GoalMode, name: str, part: T | None) -> T:
    if part is None:
        free = ", ".join(mode for mode in GoalMode if not mode.needs_planner)
        raise ConfigError(f"goal={goal} needs a {name}; without a planner there are: {free}")
    return part


class ModePlanner(ABC):
    """A `PlannerLike` that makes its plan of the instruction, and of what another planner says to the same question."""

    def plan(
        self,
        observation: Observation,
        instruction: str,
        max_steps: int | None = None,
        *,
        seed: int = 0,
        past: Sequence[PastStep] = (),
        doubt: float = 0.0,
    ) -> Plan:
        """The plan of this mode."""

        def ask(planner: PlannerLike) -> Plan:
            return planner.plan(observation, instruction, max_steps, seed=seed, past=past, doubt=doubt)

        return self._plan(instruction, ask)

    @abstractmethod
    def _plan(self, instruction: str, ask: Callable[[PlannerLike], Plan]) -> Plan:
        """The plan. ask: puts the question to a planner."""


@dataclass(frozen=True)
class WordsAlone(ModePlanner):
    """A planner's steps without their images."""

    planner: PlannerLike

    def _plan(self, instruction: str, ask: Callable[[PlannerLike], Plan]) -> Plan:
        plan = ask(self.planner)
        return replace(plan, steps=tuple(PlanStep(subtask=step.subtask) for step in plan.steps))


@dataclass(frozen=True)
class OtherImages(ModePlanner):
    """A planner's words; every step has the present image of a source."""

    planner: PlannerLike
    source: SubgoalSource

    def _plan(self, instruction: str, ask: Callable[[PlannerLike], Plan]) -> Plan:
        plan, given = ask(self.planner), self.source()
        image = None if given is None else given.subgoal
        return replace(plan, steps=tuple(PlanStep(subtask=step.subtask, subgoal=image) for step in plan.steps))

    def draw_subgoal(self, observation: Observation, subtask: str, *, seed: int) -> Image | None:
        """The present image of the source."""
        given = self.source()
        return None if given is None else given.subgoal


@dataclass(frozen=True)
class GivenSteps(ModePlanner):
    """The present step of a source."""

    source: SubgoalSource

    def _plan(self, instruction: str, ask: Callable[[PlannerLike], Plan]) -> Plan:
        given = self.source()
        return Plan(instruction=instruction, steps=() if given is None else (given,))


@dataclass(frozen=True)
class WholeInstruction(ModePlanner):
    """The instruction as the only step, without an image, which never ends."""

    def _plan(self, instruction: str, ask: Callable[[PlannerLike], Plan]) -> Plan:
        return Plan(instruction=instruction, steps=(PlanStep(subtask=instruction),))
