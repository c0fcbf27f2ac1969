"""What an evaluation is: the settings, and what follows from them alone (seeds, families, the command line)."""

from dataclasses import asdict, dataclass, field, is_dataclass
from importlib import import_module
from pathlib import Path

from emu_robot.data.collect import SEED_LIMIT
from emu_robot.environments import ENVIRONMENTS
from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.decoding.config import Decoder
from emu_robot.policy.config import ChunkConfig, GoalMode

SPLITS = ("seen", "heldout")
FIRST_SEED = SEED_LIMIT
"""Evaluation seeds start here; training seeds lie below."""
SEED_STRIDE = 100_000


@dataclass(kw_only=True)
class LayoutsConfig:
    """What every measurement shares: whose, on which layouts.

    policy: a released name or a weights folder.
    tasks: family names, or the groups "single", "long", "all".
    n: layouts in all; layout i is of family i modulo the number of families.
    decoder: of subgoals, auto (dida for weights adapted to it) | ar | dida; decoder_steps: passes per image of dida.
    int8: let the planner compute in int8 where that is faster.
    """

    policy: str = "mini"
    env: str = "tabletop"
    split: str = "seen"
    tasks: list[str] = field(default_factory=lambda: ["long"])
    n: int = 100
    seed: int = 0
    decoder: str = "auto"
    decoder_steps: int = 1
    int8: bool = True
    out: Path = Path("outputs/eval")

    def __post_init__(self) -> None:
        _check_name("split", self.split, SPLITS)
        _check_name("decoder", self.decoder, tuple(Decoder))
        if self.decoder_steps < 1:
            raise InvalidValueError(f"decoder_steps is {self.decoder_steps}; it must be at least 1")
        _check_name("environment", self.env, tuple(ENVIRONMENTS))
        if not 1 <= self.n <= SEED_STRIDE:
            raise InvalidValueError(f"n is {self.n}; it must be in 1..{SEED_STRIDE}")
        if self.seed < 0:
            raise InvalidValueError(f"seed is {self.seed}; it must not be negative")

    def episode_seed(self, index: int) -> int:
        """The environment's seed of layout `index`."""
        return FIRST_SEED + self.seed * SEED_STRIDE + index

    def families(self) -> tuple[str, ...]:
        """The families that `tasks` and `split` mean; raises `UnknownNameError` with the known ones."""
        package = ENVIRONMENTS[self.env].split(":")[0].rpartition(".")[0]
        return import_module(f"{package}.tasks").resolve_families(self.tasks, self.split)

    def settings(self) -> dict[str, object]:
        """What the outcome on a layout depends on, as JSON values."""
        left_out = {"n", "out", "workers", "videos", "resume"}
        values: dict[str, object] = {}
        for key, value in vars(self).items():
            if is_dataclass(value) and not isinstance(value, type):
                values |= {f"{key}.{name}": inner for name, inner in asdict(value).items()}
            elif key not in left_out:
                values[key] = list(value) if isinstance(value, list) else value
        return values


@dataclass(kw_only=True)
class EvalConfig(LayoutsConfig):
    """Settings of a closed-loop evaluation.

    policy: also "expert", the scripted expert, an upper bound.
    goal: where subgoals come from: planner | oracle (the true image) | none (instruction only) | shuffled (the image of
    another layout) | text (the planner's words only).
    workers: processes; 0 runs in this one. Results do not depend on it.
    videos: episodes that get a clip. n_action_steps: executed per chunk, the policy's own number when None.
    resume: keep finished episodes found in `out` if they were made with the same settings.
    """

    chunk: ChunkConfig = field(default_factory=ChunkConfig)
    """How the policy samples a chunk."""
    replan: ReplanConfig = field(default_factory=ReplanConfig)
    """When the policy plans its next step."""
    goal: str = "planner"
    workers: int = 2
    videos: int = 6
    n_action_steps: int | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_name("goal", self.goal, tuple(GoalMode))
        if self.workers < 0 or self.videos < 0:
            raise InvalidValueError("workers and videos must not be negative")
        if self.n_action_steps is not None and self.n_action_steps < 1:
            raise InvalidValueError(f"n_action_steps is {self.n_action_steps}; it must be at least 1")

    @property
    def title(self) -> str:
        """What is measured, for instance "long, seen, goal=planner"."""
        source = "scripted expert" if self.policy == "expert" else f"goal={self.goal}"
        return f"{'+'.join(self.tasks)}, {self.split}, {source}"

    def command(self) -> str:
        """The command line that repeats this evaluation."""
        words = ["emu-robot eval", f"policy={self.policy}", f"env={self.env}", f"split={self.split}"]
        words += [f"tasks={','.join(self.tasks)}", f"n={self.n}", f"goal={self.goal}", f"seed={self.seed}"]
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
