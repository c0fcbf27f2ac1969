"""Settings of an evaluation, and what follows from them alone: seeds, tasks, the command line."""

from dataclasses import asdict, dataclass, field, is_dataclass
from enum import StrEnum
from pathlib import Path

from emu_robot import environments
from emu_robot.data.seed_choice import FIRST_OWN_SEED, SEED_LIMIT
from emu_robot.environments.capabilities import NumbersSeeds
from emu_robot.environments.contract import SEEN, Suite, TaskSpec, select_tasks
from emu_robot.errors import ConfigError, UnknownNameError
from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.decoding.config import Decoder
from emu_robot.policy.config import ChunkConfig, GoalMode
from emu_robot.policy.registry import is_foreign
from emu_robot.shared.settings import check_ranges, number


class RunnerKind(StrEnum):
    """What runs the episodes of an evaluation."""

    local = "local"
    """Processes of this machine."""
    ray = "ray"
    """Actors of Ray."""


FIRST_SEED = SEED_LIMIT
"""Evaluation seeds start here; training seeds lie below."""
SEED_STRIDE = 100_000


@dataclass(frozen=True, kw_only=True)
class LayoutsConfig:
    """Settings common to all measurements."""

    policy: str = "mini"
    """A released name or a weights folder."""
    env: str = "tabletop"
    """An environment that an installed package registers, or one of LeRobot's: lerobot:TYPE/TASK,SETTING=VALUE."""
    split: str = SEEN
    """One of the environment's splits."""
    tasks: list[str] = field(default_factory=list)
    """Tasks or groups of the environment, or "all"; empty: the environment's default."""
    n: int = number(100, 1, SEED_STRIDE)
    """Number of layouts. Layout i belongs to task i modulo the number of tasks."""
    seed: int = number(0, 0)
    """Chooses the layouts, and the policy's random numbers."""
    out: Path = Path("outputs/eval")
    """Folder of the results."""

    def __post_init__(self) -> None:
        check_ranges(self)
        environments.check_name(self.env)

    def suite(self) -> Suite:
        """The environment; raises `SystemSetupError` if its package cannot be loaded."""
        return environments.suite(self.env)

    def task_names(self) -> list[str]:
        """The names in `tasks`; the environment's default if there are none."""
        return list(self.tasks or self.suite().default_tasks)

    def selected(self) -> tuple[TaskSpec, ...]:
        """The tasks that `tasks` and `split` select. Raises `UnknownNameError` with the known ones."""
        return select_tasks(self.suite().tasks, self.task_names(), self.split)

    def episode_seed(self, index: int) -> int:
        """The environment's seed of layout `index`. Raises `ConfigError` for one that belongs to demonstrations."""
        suite = self.suite()
        if isinstance(suite, NumbersSeeds):
            seed = suite.episode_seed(self.seed, self.episode_number(index))
            if seed >= FIRST_OWN_SEED:
                raise ConfigError(f"seed={self.seed}: demonstrations of env={self.env} use seeds from {FIRST_OWN_SEED}")
            return seed
        return FIRST_SEED + self.seed * SEED_STRIDE + index

    def episode_number(self, index: int) -> int:
        """The number of layout `index` among those of its task, from 0."""
        return index // len(self.selected())

    def settings(self) -> dict[str, object]:
        """The settings that the outcome on a layout depends on, as JSON values."""
        left_out = {"n", "out", "workers", "videos", "resume", "interactive", "runner"}
        values: dict[str, object] = {}
        for key, value in vars(self).items():
            if is_dataclass(value) and not isinstance(value, type):
                values |= {f"{key}.{name}": inner for name, inner in asdict(value).items()}
            elif key not in left_out:
                values[key] = list(value) if isinstance(value, list) else value
        return {**values, "tasks": self.task_names()}


@dataclass(frozen=True, kw_only=True)
class PlannedLayoutsConfig(LayoutsConfig):
    """Settings common to all measurements with a planner."""

    decoder: Decoder = Decoder.AUTO
    """Decoder of subgoal images; auto takes dida for weights adapted to it, else ar."""
    decoder_steps: int = number(1, 1)
    """Passes per image; only for dida."""
    int8: bool = True
    """Let the planner compute in int8 where that is faster."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_name("decoder", self.decoder, tuple(Decoder))

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        return {"decoder_steps": "decoder=ar"} if self.decoder == Decoder.AR else {}


@dataclass(frozen=True, kw_only=True)
class ClosedLoopConfig(PlannedLayoutsConfig):
    """Settings common to all measurements of a policy in closed loop."""

    chunk: ChunkConfig = field(default_factory=ChunkConfig)
    """Sampling of a chunk."""
    replan: ReplanConfig = field(default_factory=ReplanConfig)
    """Moments at which the policy plans its next step."""
    goal: GoalMode = GoalMode.AUTO
    """Source of subgoals: planner (words and image) | text (the planner's words, no image) | oracle (the true words and
    image) | shuffled (the planner's words, the image of another layout) | none (the whole instruction, no image) |
    auto (planner, text or none, as the weights say)."""
    workers: int = number(2, 0)
    """Worker processes; 0 runs in the calling one. Results do not depend on it."""
    n_action_steps: int | None = number(None, 1)
    """Actions executed of each chunk [control ticks]; null: the policy's own number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_name("goal", self.goal, tuple(GoalMode))


@dataclass(frozen=True, kw_only=True)
class EvalConfig(ClosedLoopConfig):
    """Settings of a closed-loop evaluation.

    policy=expert measures the scripted expert, an upper bound; policy=lerobot:CHECKPOINT a policy of LeRobot.
    """

    runner: RunnerKind = RunnerKind.local
    """Processes of this machine, or actors of Ray: of this machine, or of the cluster that RAY_ADDRESS names, whose
    machines need a common file system. Results do not depend on it."""
    videos: int = number(6, 0)
    """Episodes that get a clip."""
    resume: bool = False
    """Keep finished episodes found in `out`; they must have the same settings, weights and versions."""

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        planner = ("decoder", "decoder_steps", "int8")
        if not self.is_ours:
            idle = ("goal", "chunk", "replan", "n_action_steps", *planner)
            owner = "the environment's own expert" if self.policy == "expert" else "a policy with settings of its own"
            return dict.fromkeys(idle, f"policy={self.policy} is {owner}")
        if self.goal == GoalMode.NONE:
            return dict.fromkeys(("replan", *planner), "goal=none plans nothing")
        if self.goal == GoalMode.ORACLE:
            return dict.fromkeys(planner, "goal=oracle takes its steps from the environment")
        return super().without_effect()

    @property
    def is_ours(self) -> bool:
        """Whether the policy has weights of ours: it is neither the environment's expert nor another package's."""
        return self.policy != "expert" and not is_foreign(self.policy)

    @property
    def title(self) -> str:
        """The measurement in words, for instance "long, seen, goal=planner"."""
        source = "scripted expert" if self.policy == "expert" else f"goal={self.goal}" if self.is_ours else self.policy
        return f"{'+'.join(self.task_names())}, {self.split}, {source}"

    def command(self) -> str:
        """The command line that repeats this evaluation."""
        always = ("policy", "env", "split", "tasks", "n", "goal", "seed")
        values, usual, idle = self.settings() | {"n": self.n}, EvalConfig().settings(), self.without_effect()
        shown = [*always, *(key for key in values if key not in always and values[key] != usual[key])]
        words = [f"{key}={_as_typed(values[key])}" for key in shown if key.partition(".")[0] not in idle]
        return " ".join(["emu-robot eval", *words])


@dataclass(frozen=True, kw_only=True)
class DemoConfig(EvalConfig):
    """Settings of the demo: those of an evaluation, or of one scene with a person who says what to do."""

    interactive: bool = False
    """Follow instructions from the standard input in one scene, while the arm moves. It begins with the scene's own.
    Without `out` it writes to outputs/interactive."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interactive and (not self.is_ours or GoalMode(self.goal).needs_source):
            given = f"goal={self.goal}" if self.is_ours else f"policy={self.policy}"
            raise ConfigError(f"interactive=true: {given} takes no other instruction while the robot moves")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        idle = ("n", "workers", "videos", "resume") if self.interactive else ()
        return super().without_effect() | dict.fromkeys(idle, "interactive=true plays one scene")


def _as_typed(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_name(kind: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise UnknownNameError(kind, given, known)
