"""The scripted expert as a policy: the upper bound for every learned policy."""

from emu_robot.core import ActionChunk, Observation, PlanStep
from emu_robot.environments.capabilities import Expert, HasExpert, due_subtask, require
from emu_robot.environments.contract import Environment


class ExpertPolicy:
    """Plays an environment's own expert, which sees the simulator's state, not the images."""

    def __init__(self, environment: Environment) -> None:
        """Raises `InvalidValueError` if the environment has no expert."""
        self._environment = environment
        self._demonstrator = require(environment, HasExpert, "policy=expert")
        self._expert: Expert | None = None

    def reset(self, instruction: str) -> None:
        """Take a new expert for the layout that the environment was just reset to."""
        self._expert = self._demonstrator.expert()

    def act(self, observation: Observation) -> ActionChunk:
        """A chunk of one action; the plan step carries the true words, if the environment tells them, and no image."""
        assert self._expert is not None, "reset comes first"
        words = due_subtask(self._environment)
        step = PlanStep(subtask=words) if words is not None else None
        return ActionChunk(actions=self._expert.action()[None], step=step)
