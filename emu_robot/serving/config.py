"""Settings of a policy that serves vla-eval. Loads no torch."""

from dataclasses import dataclass, field, replace

from emu_robot.errors import ConfigError
from emu_robot.observation.image_fit import ImageFit
from emu_robot.policy.config import PolicyConfig, read_goal
from emu_robot.shared.settings import check_ranges, number


@dataclass(frozen=True, kw_only=True)
class VlaEvalConfig:
    """Settings of `emu-robot serve-vla-eval`."""

    policy: str = "mini"
    """A released name or a weights folder."""
    goal: str = "auto"
    """Source of subgoals: planner | text | none | auto (what the weights say)."""
    cameras: dict[str, str] = field(default_factory=dict)
    """The policy's camera -> the benchmark's camera. A camera that is not named here has the same name in both."""
    fit: ImageFit = ImageFit.pad
    """How a picture of another shape becomes the policy's square: pad | crop | stretch."""
    n_action_steps: int | None = number(None, 1)
    """Actions executed of each chunk [control ticks]; null: the policy's own number."""
    seed: int = number(0, 0)
    """Chooses the policy's random numbers; an episode's also depend on its task and its first observation."""
    host: str = "127.0.0.1"
    """Address to listen on. The protocol has no password: other machines can use the policy if they reach it."""
    port: int = number(8000, 0, 65535)
    """Port to listen on; 0 takes a free one and prints it."""

    def __post_init__(self) -> None:
        check_ranges(self)
        read_goal(self.goal)
        twice = [name for name in self.cameras.values() if list(self.cameras.values()).count(name) > 1]
        if twice:
            raise ConfigError(f"cameras: {twice[0]!r} of the benchmark stands for two of the policy's cameras")

    @property
    def policy_config(self) -> PolicyConfig:
        """The policy's part."""
        made = PolicyConfig(goal=read_goal(self.goal), whole_chunks=True)
        return made if self.n_action_steps is None else replace(made, n_action_steps=self.n_action_steps)
