"""Episodes of a policy under LeRobot: the state of one thread's environments."""

from collections import deque
from dataclasses import dataclass, field

from torch import Tensor

from emu_robot.policy.emu_policy import EmuPolicy


@dataclass
class Episodes:
    """Episodes in the environments of one thread. With `--env.max_parallel_tasks` several threads share a policy."""

    queue: deque[Tensor] = field(default_factory=deque)
    """Actions (B, A) still to be executed."""
    drivers: list[EmuPolicy] = field(default_factory=list)
    """Policy of each environment; empty before the first observation."""
    tasks: list[str] = field(default_factory=list)
    """Task of each environment."""
    latents: Tensor | None = None
    """The first environment's subgoal, repeated per action, if predicted video is saved."""

    def follow(self, tasks: list[str]) -> None:
        """Pass on every task that has changed; its policy plans for it at the next chunk."""
        for driver, before, now in zip(self.drivers, self.tasks, tasks, strict=True):
            if now != before:
                driver.instruct(now)
        self.tasks = tasks
