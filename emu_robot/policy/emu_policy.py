"""EmuPolicy: a planner says what comes next, the action head does it, a subtask monitor decides when to plan again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from emu_robot.core import ActionChunk, Observation, PlanStep
from emu_robot.errors import ConfigError, InvalidValueError, UnknownNameError
from emu_robot.models.weights import resolve_weights
from emu_robot.planner.subtask_monitor import CompletionWatch, SubtaskMonitor, Verdict
from emu_robot.planner.task_execution import PlannerLike
from emu_robot.policy.action_decoder import ActionContext, ActionDecoder, ActionPrefix
from emu_robot.policy.config import GoalMode, PolicyConfig

type SubgoalSource = Callable[[], PlanStep | None]


class EmuPolicy:
    """A core.Policy. Same seed and same observations, same actions."""

    def __init__(
        self,
        head: ActionDecoder,
        planner: PlannerLike | None,
        config: PolicyConfig,
        *,
        subgoal_source: SubgoalSource | None = None,
        seed: int = 0,
    ) -> None:
        if config.goal.needs_planner and planner is None:
            raise ConfigError(f"goal={config.goal} needs a planner; without one there are goal=oracle and goal=none")
        if config.goal.needs_source and subgoal_source is None:
            raise ConfigError(f"goal={config.goal} needs a subgoal_source")
        if config.n_action_steps > head.action_horizon:
            raise ConfigError(f"n_action_steps is {config.n_action_steps}; the head predicts {head.action_horizon}")
        self._head, self._planner, self._config, self._source = head, planner, config, subgoal_source
        self._monitor = SubtaskMonitor(
            config.replan, steps_per_chunk=config.n_action_steps, segment_steps_p90=head.segment_steps_p90
        )
        self._completion = CompletionWatch(config.replan)
        self._instruction = ""
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Choose the random numbers of the following episodes; each `reset` starts them anew."""
        self._seed = seed
        self._generator = torch.Generator().manual_seed(seed)

    def reset(self, instruction: str) -> None:
        """Start an episode. Raises `InvalidValueError` for an empty instruction."""
        if not instruction.strip():
            raise InvalidValueError("the instruction is empty")
        self._instruction = instruction
        self._step: PlanStep | None = None
        self._completion.declare(False)
        self._target: NDArray[np.float32] | None = None
        self._generator.manual_seed(self._seed)

    def act(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """The next chunk, (n_action_steps, A); plans first when a step is missing, reached or overdue.

        prefix: what the chunk is to begin with, for control loops that go on acting meanwhile.

        Raises `UnknownNameError` for a missing camera, `ShapeError` for a wrong image size or state.
        """
        if not self._instruction:
            raise InvalidValueError("reset the policy with an instruction before acting")
        self._head.check(observation)
        self._prefix = prefix
        if self._config.goal is GoalMode.NONE:
            return self._follow(observation, PlanStep(subtask=self._instruction), ())
        if self._completion.declared and not self._completion.due():
            return self._hold(observation, ())
        if self._step is None:
            return self._replan(observation, ())
        context = self._head.encode(observation, self._step)
        verdict = self._monitor.update(context.progress)
        if verdict is Verdict.CONTINUE:
            return self._chunk(observation, context, self._step, ())
        return self._replan(observation, (verdict.value,))

    def _replan(self, observation: Observation, events: tuple[str, ...]) -> ActionChunk:
        self._step = self._next_step(observation)
        self._monitor.start()
        self._completion.declare(self._step is None)
        if self._step is None:
            return self._hold(observation, (*events, "complete"))
        return self._follow(observation, self._step, (*events, "planned"))

    def _next_step(self, observation: Observation) -> PlanStep | None:
        step = None
        if self._planner is not None:
            plan = self._planner.plan(observation, self._instruction, max_steps=1)
            step = None if plan.is_complete else plan.steps[0]
        goal = self._config.goal
        if goal is GoalMode.TEXT and step is not None:
            return PlanStep(subtask=step.subtask)
        if self._source is None or not goal.needs_source:
            return step
        given = self._source()
        if goal is GoalMode.ORACLE:
            return given
        return step and PlanStep(subtask=step.subtask, subgoal=None if given is None else given.subgoal)

    def _follow(self, observation: Observation, step: PlanStep, events: tuple[str, ...]) -> ActionChunk:
        return self._chunk(observation, self._head.encode(observation, step), step, events)

    def _chunk(
        self, observation: Observation, context: ActionContext, step: PlanStep, events: tuple[str, ...]
    ) -> ActionChunk:
        actions = self._head.sample(
            context,
            observation.state,
            generator=self._generator,
            steps=self._config.chunk.flow_steps,
            noise_scale=self._config.chunk.noise_scale,
            prefix=self._prefix,
        )
        self._target = actions[self._config.n_action_steps - 1]
        if not self._config.whole_chunks:
            actions = actions[: self._config.n_action_steps]
        known = None if self._config.goal is GoalMode.NONE else context.progress
        return ActionChunk(actions=actions, step=step, progress=known, events=events)

    def _hold(self, observation: Observation, events: tuple[str, ...]) -> ActionChunk:
        """Stay at the last target; without one, where the robot is."""
        target = self._head.hold_target(observation.state) if self._target is None else self._target
        count = self._head.action_horizon if self._config.whole_chunks else self._config.n_action_steps
        actions = np.repeat(target[None], count, axis=0)
        return ActionChunk(actions=actions, events=events)


def load_policy(
    name_or_path: str | Path = "mini",
    *,
    goal: str = "planner",
    subgoal_source: SubgoalSource | None = None,
    seed: int = 0,
    config: PolicyConfig | None = None,
) -> EmuPolicy:
    """The policy of released weights ("mini") or of a weights folder; `goal` is one of `GoalMode`.

    Raises `UnknownNameError` for the name or goal, `WeightsError` for missing or damaged weights.
    """
    if goal not in set(GoalMode):
        raise UnknownNameError("goal", goal, [mode.value for mode in GoalMode])
    config = replace(config or PolicyConfig(), goal=GoalMode(goal))
    folder = resolve_weights(name_or_path)
    planner = None
    if config.goal.needs_planner:
        from emu_robot.planner.planner import Planner

        planner = Planner.load(folder, decoder=config.decoder, int8=config.int8)
    return EmuPolicy(ActionDecoder.load(folder), planner, config, subgoal_source=subgoal_source, seed=seed)
