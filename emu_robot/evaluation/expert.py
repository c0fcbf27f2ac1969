"""The scripted expert as a policy: the upper bound that any learned policy is measured against."""

from typing import Any

from emu_robot.core import ActionChunk, Observation, PlanStep


class ExpertPolicy:
    """Plays an environment's own expert; it sees the simulator's state, not the images."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._expert: Any = None

    def reset(self, instruction: str) -> None:
        """Take a fresh expert for the layout that the environment was just reset to."""
        self._expert = self._environment.expert()

    def act(self, observation: Observation) -> ActionChunk:
        """A chunk of one action; the plan step carries the true words and no image."""
        words = self._environment.current_subtask
        step = PlanStep(subtask=words) if words is not None else None
        return ActionChunk(actions=self._expert.action()[None], step=step)
