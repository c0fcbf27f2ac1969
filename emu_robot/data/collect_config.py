"""Settings of a collection of demonstrations."""

from dataclasses import dataclass
from pathlib import Path

from emu_robot.data.seed_choice import SEED_LIMIT
from emu_robot.errors import ConfigError
from emu_robot.shared.settings import check_ranges, number


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Settings of a collection of demonstrations."""

    env: str = "tabletop"
    """Environment."""
    families: tuple[str, ...] = ()
    """Families of tasks, or groups of them; none means the environment's default."""
    split: str = "seen"
    """One of the environment's splits."""
    n: int = number(100, 1)
    """Episodes attempted, with seeds seed .. seed + n - 1; at most so many with per_task."""
    per_task: int | None = number(None, 1)
    """Successful episodes wanted of every task: its seeds are tried in order until it has them; null: all seeds are."""
    out: Path = Path("data/demonstrations")
    """The replay buffer's folder."""
    seed: int = number(0, 0)
    """Seed of the first episode; seed + n is at most 10 million, where evaluation begins. In environments with seeds of
    their own (lerobot:…) demonstrations begin at 1 million, and evaluation ends there."""
    execute: bool = True
    """Let the expert act. If false, the scene after every subtask is laid out and rendered without motion: pictures of
    the planner's camera and words, for tokenizer and planner, and no actions."""
    disturbed: float = number(0.0, 0, 1)
    """Share of the laid out subtasks with a picture of the arm on its way or of an attempt that failed."""
    instructions: int = number(1, 1)
    """Number of laid out episodes in a row that share one scene, each with another instruction if possible."""
    workers: int = number(2, 1)
    """Processes; 1 records in this one."""
    noise: float = number(0.01, 0, 1)
    """Standard deviation of the executed joint targets around the recorded ones [rad]."""
    burst_probability: float = number(0.3, 0, 1)
    """Probability, per subtask, of a short push that the expert has to recover from."""
    policy: str = ""
    """Weights (released name or folder) of a policy that drives for some stretches towards true subgoals, while the
    expert's actions are recorded; empty: the expert drives."""
    policy_share: float = number(0.0, 0, 1)
    """Share of the subtasks in which the policy drives for a stretch."""
    image_every: int = number(1, 1)
    """Frames from one stored image to the next; starts, keyframes and dwell frames are always stored."""
    keep_failed: bool = False
    """Keep failed episodes, too."""
    lerobot: bool = True
    """Write a LeRobotDataset to <out>_lerobot, too; needs image_every=1."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.seed + self.n > SEED_LIMIT:
            raise ConfigError(f"seed + n must be at most {SEED_LIMIT} (evaluation seeds begin there)")
        if (self.policy_share > 0) != bool(self.policy):
            raise ConfigError(f"policy_share must go with a policy, got {self.policy_share} and {self.policy!r}")
        if self.lerobot and not self.execute:
            raise ConfigError("lerobot=true needs execute=true; set lerobot=false")
        if self.lerobot and self.image_every != 1:
            raise ConfigError(f"lerobot=true needs image_every=1, got {self.image_every}; set lerobot=false")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        if self.execute:
            return dict.fromkeys(("disturbed", "instructions"), "execute=true lays nothing out")
        moving = ("noise", "burst_probability", "policy", "image_every", "keep_failed")
        return dict.fromkeys(moving, "execute=false moves nothing")

    @property
    def lerobot_out(self) -> Path:
        """Folder of the LeRobotDataset."""
        return self.out.with_name(f"{self.out.name}_lerobot")
