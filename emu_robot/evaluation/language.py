"""Measures whether a policy follows words: other instructions in the same scene, beside the scene's own task.

Every scene is played once for each instruction, with the same first picture to the bit and the same random numbers.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emu_robot.control.episode_loop import Subscriber, run_episode
from emu_robot.core import ActionChunk, Floats32, Image, Observation, PlanStep, Policy, Seeded, Transition
from emu_robot.environments.capabilities import HasOracle, Variation, VariesInstructions, due_subtask, require
from emu_robot.environments.contract import Environment, open_task
from emu_robot.errors import ConfigError, SystemSetupError
from emu_robot.evaluation import worker
from emu_robot.evaluation.config import SEED_STRIDE, EvalConfig
from emu_robot.evaluation.expert import ExpertPolicy
from emu_robot.evaluation.fit import check_fit, with_goal
from emu_robot.evaluation.info import measured_with
from emu_robot.evaluation.kept_results import run_kept
from emu_robot.evaluation.made_with import stages
from emu_robot.evaluation.statistics import Proportion, paired
from emu_robot.evaluation.worlds import Worlds, by_task
from emu_robot.policy.config import GoalMode
from emu_robot.shared.files import replace_json
from emu_robot.shared.progress import progress
from emu_robot.shared.settings import number
from emu_robot.shared.words import same_words

CONTROL = "control"
"""The arm that asks for the scene's own task."""


@dataclass(frozen=True, kw_only=True)
class LanguageConfig(EvalConfig):
    """Settings of a measurement of language following."""

    n: int = number(40, 1, SEED_STRIDE)
    """Number of scenes. Scene i belongs to task i modulo the number of tasks; each is played for every instruction."""
    out: Path = Path("outputs/language")
    """Folder of the results."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.goal == GoalMode.SHUFFLED:
            raise ConfigError("goal=shuffled shows images of other layouts, which no instruction asks for")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        same = {"videos": "this measurement makes no clips", "resume": "a stopped measurement always continues"}
        return super().without_effect() | same


@dataclass(frozen=True, kw_only=True, slots=True)
class Followed:
    """One episode."""

    scene: int
    """Number of the scene."""
    task: str
    """The scene's own task."""
    arm: str
    """A `Variation`, or `CONTROL`."""
    instruction: str
    """What was asked for."""
    asked_done: bool
    """Whether it was done."""
    original_done: bool
    """Whether the scene's own task was done at some tick."""
    said: str | None
    """The first subtask that the planner named; None if it named none."""
    asked_first: str | None
    """The first subtask of what was asked; None if the environment does not tell."""


class FollowWatch(Subscriber):
    """Notes the first view and words of an episode, and whether the scene's own task was ever done."""

    def __init__(self, world: VariesInstructions) -> None:
        self._world = world
        self.first_view: Mapping[str, Image] = {}
        self.said: str | None = None
        self.original_done = False

    def on_reset(self, instruction: str, seed: int, observation: Observation) -> None:
        self.first_view = observation.images

    def on_chunk(self, tick: int, observation: Observation, chunk: ActionChunk) -> None:
        if tick == 0:
            self.said = chunk.step.subtask if chunk.step is not None else None

    def on_transition(self, tick: int, action: Floats32, transition: Transition) -> None:
        self.original_done |= self._world.original_done


class LanguageExam:
    """Plays scenes in one process."""

    def __init__(self, config: LanguageConfig, make_policy: worker.PolicyFactory) -> None:
        self._config, self._make_policy = config, make_policy
        self._tasks = config.selected()
        self._worlds = Worlds(config.suite(), config.split)
        self._policy: Policy | None = None
        self._task = ""

    def run(self, index: int) -> list[Followed]:
        """Scene `index` with its own instruction, then with every other that it allows."""
        self._task = self._tasks[index % len(self._tasks)].name
        world, seed = self._worlds.of(self._task), self._config.episode_seed(index)
        arms = [None, *require(world, VariesInstructions, "measuring language").variations(seed)]
        played = [self._play(world, index, seed, arm) for arm in arms]
        for _, first_view in played[1:]:
            if not all(np.array_equal(image, played[0][1][camera]) for camera, image in first_view.items()):
                raise SystemSetupError(f"scene {seed} of {self._task!r} looks different with another instruction")
        return [followed for followed, _ in played]

    def _play(
        self, world: Environment, index: int, seed: int, arm: Variation | None
    ) -> tuple[Followed, Mapping[str, Image]]:
        varied = require(world, VariesInstructions, "measuring language")
        watch, first = FollowWatch(varied), list[str | None]()

        def reset(seed: int) -> Observation:
            observation = varied.reset_varied(seed, arm)
            first.append(due_subtask(world))
            return observation

        n_steps = self._config.n_action_steps
        result = run_episode(
            world, self._policy_for(world, seed), seed, [watch], n_action_steps=n_steps, reset=reset
        )  # fmt: skip
        followed = Followed(
            scene=index,
            task=self._task,
            arm=CONTROL if arm is None else arm.value,
            instruction=result.instruction,
            asked_done=result.success and varied.asked_done,
            original_done=watch.original_done,
            said=watch.said,
            asked_first=first[0],
        )
        return followed, watch.first_view

    def _policy_for(self, world: Environment, seed: int) -> Policy:
        if self._config.policy == "expert":
            return ExpertPolicy(world)
        if self._policy is None:
            self._policy = self._make_policy(self._config, self._subgoal)
        if isinstance(self._policy, Seeded):
            self._policy.seed(seed)
        return self._policy

    def _subgoal(self) -> PlanStep | None:
        return require(self._worlds.of(self._task), HasOracle, f"goal={self._config.goal}").oracle_step()

    def close(self) -> None:
        """Release the worlds."""
        self._worlds.close()


def language_following(
    config: LanguageConfig, make_policy: worker.PolicyFactory = worker.load_policy
) -> dict[str, Any]:
    """Measure, print two lines for each arm, write `language.json` into `config.out` and return it.

    Raises the errors of `check_fit`, `InvalidValueError` for an environment without variations of its instructions.
    """
    config = with_goal(config)
    check_fit(config)
    with closing(open_task(config.suite(), config.selected()[0].name, config.split)) as world:
        require(world, VariesInstructions, "measuring language")
    exam, episodes = partial(LanguageExam, config, make_policy), list[Followed]()
    order = by_task(range(config.n), len(config.selected()))
    with (
        progress("following words", config.n) as report,
        closing(run_kept(exam, order, config.workers, config, Followed, stages(config))) as scenes,
    ):
        for scene in scenes:
            episodes += scene
            report("")
    episodes.sort(key=lambda episode: episode.scene)
    summary = summarise(episodes, names_subtasks=config.policy == "expert" or GoalMode(config.goal).needs_planner)
    record = summary | {"episodes": [_values(episode) for episode in episodes]} | measured_with(config)
    replace_json(config.out / "language.json", record)
    for name, arm in summary["arms"].items():
        print(f"{name:15} done as asked {arm['asked']['text']}", end="")
        print("" if name == CONTROL else f"; control on these scenes {arm['control']['text']}, p = {arm['p']:.2g}")
        print(" " * 15 + f" {_second_line(name, arm)}")
    return record


def _second_line(name: str, arm: dict[str, Any]) -> str:
    said = f"first words as asked {arm['said_asked']['text']}"
    if name == CONTROL:
        return said
    return f"{said}, the control's {arm['said_control']['text']}; control's task instead {arm['instead']['text']}"


def summarise(episodes: Sequence[Followed], *, names_subtasks: bool) -> dict[str, Any]:
    """Per arm, and per arm and task: proportions with Wilson intervals, and the control on the same scenes.

    names_subtasks: whether the policy names subtasks; if not, there are no trials of its words.
    """
    arms = [name for name in (CONTROL, *Variation) if any(episode.arm == name for episode in episodes)]
    control = {episode.scene: episode for episode in episodes if episode.arm == CONTROL}
    tasks = dict.fromkeys(episode.task for episode in episodes)

    def arm(name: str, task: str | None = None) -> dict[str, Any]:
        some = [episode for episode in episodes if episode.arm == name and task in (None, episode.task)]
        return _arm(some, control, names_subtasks)

    return {
        "arms": {str(name): arm(name) for name in arms},
        "per_task": {task: {str(name): arm(name, task) for name in arms} for task in tasks},
    }


def _arm(episodes: Sequence[Followed], control: Mapping[int, Followed], names_subtasks: bool) -> dict[str, Any]:
    own = [control[episode.scene] for episode in episodes]
    asked, done = [episode.asked_done for episode in episodes], [episode.asked_done for episode in own]
    told = [(episode, other) for episode, other in zip(episodes, own, strict=True) if names_subtasks]
    said = [episode.said is not None and same_words(episode.said, episode.asked_first) for episode, _ in told]
    said_control = [episode.said is not None and same_words(episode.said, other.asked_first) for episode, other in told]
    return {
        "asked": _proportion(asked),
        "control": _proportion(done),
        "p": paired(asked, done),
        "instead": _proportion([episode.original_done and not episode.asked_done for episode in episodes]),
        "said_asked": _proportion(said),
        "said_control": _proportion(said_control),
    }


def _proportion(outcomes: Sequence[bool]) -> dict[str, Any]:
    return Proportion(sum(outcomes), len(outcomes)).figures


def _values(episode: Followed) -> dict[str, Any]:
    return {name: getattr(episode, name) for name in Followed.__dataclass_fields__}
