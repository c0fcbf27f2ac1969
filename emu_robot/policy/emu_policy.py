"""EmuPolicy: a task execution chooses the step, the step policy pursues it. The ROS nodes run the same two objects."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from emu_robot.core import ActionChunk, Floats32, Observation, PlanStep, PolicyEvent
from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_robot.models.weights import resolve_weights
from emu_robot.planner.task_execution import PlannerLike, TaskExecution
from emu_robot.policy.action_decoder import ActionDecoder, ActionPrefix
from emu_robot.policy.config import GoalMode, PolicyConfig
from emu_robot.policy.goals import SubgoalSource, goal_planner
from emu_robot.policy.step_policy import StepPolicy
from emu_robot.shared.draws import EpisodeSeed

__all__ = ["EmuPolicy", "SubgoalSource", "load_policy"]


class EmuPolicy:
    """A `core.Policy`. The same seed, episode and observations give bitwise the same actions. `goal`: its mode."""

    def __init__(
        self,
        head: ActionDecoder,
        planner: PlannerLike | None,
        config: PolicyConfig,
        *,
        subgoal_source: SubgoalSource | None = None,
        seed: int = 0,
    ) -> None:
        """Raises `ConfigError` if the goal mode lacks its planner or source, or the head predicts too few actions."""
        head.require_steps(config.n_action_steps)
        self.goal = config.goal.resolved(head.goal)
        self._planner = goal_planner(self.goal, planner, subgoal_source)
        self._head, self._config = head, config
        self._step_policy = StepPolicy(head, config.chunk)
        self._task: TaskExecution | None = None
        self._target: Floats32 | None = None
        self._is_steered = self._halts = False
        self.seed(seed)

    @property
    def control_hz(self) -> int:
        """Actions per second [Hz]."""
        return self._head.control_hz

    @property
    def n_action_steps(self) -> int:
        """Actions of a chunk that are executed before the next one."""
        return self._config.n_action_steps

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that it sees."""
        return self._head.cameras

    @property
    def image_size(self) -> int:
        """Height and width of the pictures that it sees [px]."""
        return self._head.image_size

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the dimensions of an action."""
        return self._head.layout.action_names

    @property
    def problem(self) -> str:
        """Why the last plan failed; empty if it succeeded."""
        return self._task.problem if self._task is not None else ""

    def seed(self, seed: int) -> None:
        """Choose the random numbers of the following episodes: they depend on `seed` and the episode's number."""
        self._next_episode = EpisodeSeed(seed)

    def warm_up(self) -> None:
        """Plan and act once on black pictures: the first computation takes several times as long as those after it."""
        episode = self._next_episode
        self.reset("wait")
        self.act(self._head.blank_observation())
        self._task, self._next_episode = None, episode

    def reset(self, instruction: str) -> None:
        """Start an episode. Raises `InvalidValueError` for an empty instruction."""
        self._begin(instruction)
        self._target, self._is_steered, self._halts = None, False, False

    def instruct(self, instruction: str) -> None:
        """Go over to another instruction while the robot moves. The next chunk is planned for it.

        As at set_task of the planner node, it is a task of its own, with random numbers of its own. Empty: hold still
        until the next one.
        """
        if self._task is None and not self._is_steered:
            raise InvalidValueError("reset the policy with a first instruction before another one")
        if instruction.strip():
            self._begin(instruction)
        else:
            self._task = None
        self._is_steered = self._halts = True

    def coach(self, subtask: str) -> None:
        """Pursue a subtask in a person's words, until it is reached or overdue; see `core.Coachable`.

        Raises `InvalidValueError` while no instruction is followed.
        """
        if self._task is None:
            raise InvalidValueError("no instruction is followed; give one before a subtask")
        self._task.pursue(subtask)
        self._halts = True

    def foresee(self, observation: Observation) -> tuple[PlanStep, ...]:
        """The steps that the planner expects after the pursued one; see `core.Foresees`."""
        return self._task.foresee(observation) if self._task is not None else ()

    def _begin(self, instruction: str) -> None:
        episode = self._next_episode
        self._task = TaskExecution(
            self._planner,
            instruction,
            self._config.replan,
            steps_per_chunk=self._config.n_action_steps,
            segment_steps_p90=self._head.segment_steps_p90,
            clock=lambda: self._calls,
            episode=episode,
        )
        self._step_policy.begin(episode)
        self._next_episode, self._calls = episode.next, 0

    def act(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """The next chunk, (n_action_steps, A); plans first when a step is missing, reached or overdue.

        prefix: actions with which the chunk should begin, for control loops that act during the computation.
        Raises `UnknownNameError` for a missing camera, `ShapeError` for a wrong image size or state, `PlanningError`
        after too many failed plans.
        """
        task = self._task
        if task is None and not self._is_steered:
            raise InvalidValueError("reset the policy with an instruction before acting")
        self._head.check(observation)
        if task is None:
            return self._hold(observation, [])
        chunk, events = None, list[PolicyEvent]()
        if task.step is not None:
            chunk = self._step_policy.chunk(observation, task.step, prefix)
            assert chunk.progress is not None
            events += task.on_progress(chunk.progress)
        if task.is_due:
            pursued = task.step
            events.append(task.plan(observation))
            if task.step is not pursued:
                chunk = task.step and self._step_policy.chunk(observation, task.step, prefix)
        self._calls += 1
        return self._hold(observation, events) if chunk is None else self._go(chunk, events)

    def _go(self, chunk: ActionChunk, events: list[PolicyEvent]) -> ActionChunk:
        n = self._config.n_action_steps
        self._target, self._halts = chunk.actions[n - 1], False
        actions = chunk.actions if self._config.whole_chunks else chunk.actions[:n]
        return replace(chunk, actions=actions, events=tuple(events))

    def _hold(self, observation: Observation, events: list[PolicyEvent]) -> ActionChunk:
        """Stay at the last target, without another delta, or where the robot is if there is none.

        Another instruction came before the robot reached the last target; then the arm stays where it is, too.
        """
        target = self._head.hold_target(observation.state, self._target)
        if self._halts:
            absolute = self._head.layout.relative_dims
            target[:absolute] = observation.state[:absolute]
            self._target, self._halts = target, False
        count = self._head.action_horizon if self._config.whole_chunks else self._config.n_action_steps
        return ActionChunk(actions=np.repeat(target[None], count, axis=0), events=tuple(events))


def load_policy(
    name_or_path: str | Path = "mini",
    *,
    goal: str | None = None,
    subgoal_source: SubgoalSource | None = None,
    seed: int = 0,
    config: PolicyConfig | None = None,
) -> EmuPolicy:
    """Load the policy of released weights ("mini") or of a weights folder. goal: a `GoalMode` in place of config's.

    Raises `UnknownNameError` for the name or goal, `WeightsError` for missing or damaged weights.
    """
    config, known = config or PolicyConfig(), [mode.value for mode in GoalMode]
    if goal is not None:
        if goal not in known:
            raise UnknownNameError("goal", goal, known)
        config = replace(config, goal=GoalMode(goal))
    folder = resolve_weights(name_or_path)
    head, planner = ActionDecoder.load(folder), None
    if config.goal.resolved(head.goal).needs_planner:
        from emu_robot.planner.planner import Planner

        planner = Planner.load(folder, decoder=config.decoder, int8=config.int8)
    return EmuPolicy(head.fix(), planner, config, subgoal_source=subgoal_source, seed=seed)
