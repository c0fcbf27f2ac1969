"""Runs single evaluation episodes. The outcome depends on index and settings, not on the process."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module

from emu_robot.control.episode_loop import Subscriber, run_episode
from emu_robot.core import PlanStep, Policy, Seeded
from emu_robot.environments.capabilities import HasOracle, KeepsCompositions, NumbersEpisodes, require
from emu_robot.environments.contract import Environment
from emu_robot.evaluation.config import ClosedLoopConfig, EvalConfig, PlannedLayoutsConfig
from emu_robot.evaluation.expert import ExpertPolicy
from emu_robot.evaluation.failures import FailureWatch, classify
from emu_robot.evaluation.records import EpisodeRecord
from emu_robot.evaluation.report import FIRST_SHOWN
from emu_robot.evaluation.step_log import StepLog, subtask_texts
from emu_robot.evaluation.video import ClipRecorder
from emu_robot.evaluation.worlds import Worlds
from emu_robot.planner.decoding.config import Decoder, DecoderConfig
from emu_robot.policy.config import GoalMode, PolicyConfig
from emu_robot.policy.registry import is_foreign, source_of

SETTLE_STEPS = 40
"""Extra ticks of a successful episode in the report, so that its last view shows the arm at home."""

type SubgoalSource = Callable[[], PlanStep | None]
type PolicyFactory[C: ClosedLoopConfig] = Callable[[C, SubgoalSource], Policy]

OTHER_LAYOUT = 50_000_000
"""Offset from an episode's seed to the first layout of its shuffled subgoals."""
SHUFFLED_STRIDE = 1_000_003
"""Offset between the seeds of an episode's shuffled layouts."""


def load_policy(config: ClosedLoopConfig, subgoal_source: SubgoalSource) -> Policy:
    """The policy in the weights `config.policy`, or another package's policy."""
    if is_foreign(config.policy):
        source, name = source_of(config.policy)
        return source.load(name, config.suite().spec)
    module = import_module("emu_robot.policy.emu_policy")  # torch is imported only now
    return module.load_policy(
        config.policy, goal=config.goal, subgoal_source=subgoal_source, seed=config.seed, config=policy_config(config)
    )


def policy_config(config: ClosedLoopConfig) -> PolicyConfig:
    """The policy's part of the settings of an evaluation."""
    made = PolicyConfig(decoder=make_decoder(config), int8=config.int8, chunk=config.chunk, replan=config.replan)
    return made if config.n_action_steps is None else replace(made, n_action_steps=config.n_action_steps)


def make_decoder(config: PlannedLayoutsConfig) -> DecoderConfig:
    """Settings of the planner's decoder."""
    return DecoderConfig(kind=Decoder(config.decoder), steps=config.decoder_steps)


class EpisodeRunner:
    """Runs episodes in one process, with one policy and the world of the present task."""

    def __init__(self, config: EvalConfig, policy_factory: PolicyFactory[EvalConfig] = load_policy) -> None:
        self._config = config
        self._tasks = config.selected()
        self._worlds = Worlds(config.suite(), config.split)
        self._make_policy = policy_factory
        self._policy: Policy | None = None
        self._task = self._tasks[0].name
        self._shuffled_seed = 0

    def run(self, index: int) -> EpisodeRecord:
        """Run episode `index`, write its pictures, clip and record under `config.out`, and return the record."""
        config = self._config
        task, seed = self._tasks[index % len(self._tasks)], config.episode_seed(index)
        self._task = task.name
        environment = self._worlds.of(task.name)
        self._shuffled_seed = seed + OTHER_LAYOUT
        policy = self._policy_for(environment, seed)

        stem = f"{index:05d}"
        folder = config.out / "episodes"
        log = StepLog(environment, folder=folder, stem=stem)
        watch = FailureWatch(environment)
        subscribers: list[Subscriber] = [log, watch]
        clip = None
        if index < config.videos:
            clip = f"{folder.name}/{stem}.mp4"
            subscribers.append(ClipRecorder(environment, config.out / clip))
        result = run_episode(
            environment,
            policy,
            seed,
            subscribers,
            n_action_steps=config.n_action_steps,
            settle_steps=SETTLE_STEPS if index < max(FIRST_SHOWN, config.videos) else 0,
            reset=partial(environment.reset_numbered, number=config.episode_number(index))
            if isinstance(environment, NumbersEpisodes)
            else None,
        )

        failure, detail = classify(result, log.steps, watch)
        record = EpisodeRecord(
            index=index,
            task=task.name,
            group=task.group,
            split=config.split,
            seed=seed,
            instruction=result.instruction,
            success=result.success,
            ending=result.ending.value,
            n_steps=result.n_steps,
            n_chunks=result.n_chunks,
            subtasks=subtask_texts(environment),
            subtasks_done=result.subtasks_done,
            compositions=environment.compositions if isinstance(environment, KeepsCompositions) else (),
            steps=tuple(log.steps),
            events=result.events,
            failure=failure,
            detail=detail,
            control_hz=environment.spec.control_hz,
            max_steps=environment.max_steps,
            clip=clip,
            sum_reward=sum(result.rewards) if result.rewards else None,
            max_reward=max(result.rewards) if result.rewards else None,
            policy_s=round(result.policy_s, 3),
            wall_s=round(result.wall_s, 3),
        )
        record.write(folder / f"{stem}.json")
        return record

    def close(self) -> None:
        """Release the worlds."""
        self._worlds.close()

    def _policy_for(self, environment: Environment, seed: int) -> Policy:
        if self._config.policy == "expert":
            return ExpertPolicy(environment)
        if self._policy is None:
            self._policy = self._make_policy(self._config, self._subgoal)
        if isinstance(self._policy, Seeded):
            self._policy.seed(seed)
        return self._policy

    def _subgoal(self) -> PlanStep | None:
        """The true next step of the running episode; for shuffled goals, that of another layout."""
        purpose = f"goal={self._config.goal}"
        if self._config.goal != GoalMode.SHUFFLED:
            return require(self._worlds.of(self._task), HasOracle, purpose).oracle_step()
        other = self._worlds.of(self._task, spare=True)
        other.reset(self._shuffled_seed)
        self._shuffled_seed += SHUFFLED_STRIDE
        return require(other, HasOracle, purpose).oracle_step()
