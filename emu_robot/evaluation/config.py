"""What an evaluation is: the settings, and what follows from them alone (seeds, tasks, the command line)."""

from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path

from emu_robot import environments
from emu_robot.data.collect import SEED_LIMIT
from emu_robot.environments.contract import SEEN, Suite, TaskSpec, select_tasks
from emu_robot.errors import UnknownNameError
from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.decoding.config import Decoder
from emu_robot.policy.config import ChunkConfig, GoalMode
from emu_robot.shared.settings import check_ranges, number

FIRST_SEED = SEED_LIMIT
"""Evaluation seeds start here; training seeds lie below."""
SEED_STRIDE = 100_000


@dataclass(kw_only=True)
class LayoutsConfig:
    """Settings common to all measurements."""

    policy: str = "mini"
    """A released name or a weights folder."""
    env: str = "tabletop"
    """An environment that an installed package registers."""
    split: str = SEEN
    """Which of the environment's splits."""
    tasks: list[str] = field(default_factory=list)
    """Tasks or groups of the environment, or "all"; none: the environment's default."""
    n: int = number(100, 1, SEED_STRIDE)
    """Layouts in all; layout i is of task i modulo the number of tasks."""
    seed: int = number(0, 0)
    """Chooses the layouts, and the policy's random numbers."""
    decoder: str = "auto"
    """How subgoals are drawn: auto (dida for weights adapted to it) | ar | dida."""
    decoder_steps: int = number(1, 1)
    """Passes per image of dida."""
    int8: bool = True
    """Let the planner compute in int8 where that is faster."""
    out: Path = Path("outputs/eval")
    """Folder of the results."""

    def __post_init__(self) -> None:
        check_ranges(self)
        _check_name("decoder", self.decoder, tuple(Decoder))
        _check_name("environment", self.env, tuple(environments.names()))

    def suite(self) -> Suite:
        """The environment; raises `SystemSetupError` if its package cannot be loaded."""
        return environments.suite(self.env)

    def task_names(self) -> list[str]:
        """What `tasks` names, or what the environment names where it does not."""
        return list(self.tasks or self.suite().default_tasks)

    def selected(self) -> tuple[TaskSpec, ...]:
        """The tasks that `tasks` and `split` mean; raises `UnknownNameError` with the known ones."""
        return select_tasks(self.suite().tasks, self.task_names(), self.split)

    def episode_seed(self, index: int) -> int:
        """The environment's seed of layout `index`."""
        return FIRST_SEED + self.seed * SEED_STRIDE + index

    def settings(self) -> dict[str, object]:
        """What the outcome on a layout depends on, as JSON values."""
        left_out = {"n", "out", "workers", "videos", "resume"}
        values: dict[str, object] = {}
        for key, value in vars(self).items():
            if is_dataclass(value) and not isinstance(value, type):
                values |= {f"{key}.{name}": inner for name, inner in asdict(value).items()}
            elif key not in left_out:
                values[key] = list(value) if isinstance(value, list) else value
        return {**values, "tasks": self.task_names()}


@dataclass(kw_only=True)
class EvalConfig(LayoutsConfig):
    """Settings of a closed-loop evaluation. policy may also be "expert", the scripted expert, an upper bound."""

    chunk: ChunkConfig = field(default_factory=ChunkConfig)
    """How the policy samples a chunk."""
    replan: ReplanConfig = field(default_factory=ReplanConfig)
    """When the policy plans its next step."""
    goal: str = "planner"
    """Where subgoals come from: planner | oracle (the true image) | none (instruction only) | shuffled (the image of
    another layout) | text (the planner's words only)."""
    workers: int = number(2, 0)
    """Processes; 0 runs in this one. Results do not depend on it."""
    videos: int = number(6, 0)
    """Episodes that get a clip."""
    n_action_steps: int | None = number(None, 1)
    """Actions executed of each chunk [control ticks]; null: the policy's own number."""
    resume: bool = False
    """Keep finished episodes found in `out` if they were made with the same settings."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_name("goal", self.goal, tuple(GoalMode))

    @property
    def title(self) -> str:
        """What is measured, for instance "long, seen, goal=planner"."""
        source = "scripted expert" if self.policy == "expert" else f"goal={self.goal}"
        return f"{'+'.join(self.task_names())}, {self.split}, {source}"

    def command(self) -> str:
        """The command line that repeats this evaluation."""
        words = ["emu-robot eval", f"policy={self.policy}", f"env={self.env}", f"split={self.split}"]
        words += [f"tasks={','.join(self.task_names())}", f"n={self.n}", f"goal={self.goal}", f"seed={self.seed}"]
        if self.decoder != "auto":
            words.append(f"decoder={self.decoder}")
        if self.decoder_steps != type(self).decoder_steps:
            words.append(f"decoder_steps={self.decoder_steps}")
        if not self.int8:
            words.append("int8=false")
        if self.n_action_steps is not None:
            words.append(f"n_action_steps={self.n_action_steps}")
        usual = EvalConfig().settings()
        nested = {key: value for key, value in self.settings().items() if "." in key}
        words += [f"{key}={value}" for key, value in nested.items() if value != usual[key]]
        return " ".join(words)


def _check_name(kind: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise UnknownNameError(kind, given, known)
