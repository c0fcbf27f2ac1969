"""Observation and one plan step in, a whole chunk out. The planner is elsewhere."""

from pathlib import Path

import torch

from emu_robot.core import ActionChunk, Observation, PlanStep
from emu_robot.models.weights import resolve_weights
from emu_robot.policy.action_decoder import ActionDecoder
from emu_robot.policy.config import PolicyConfig


class StepPolicy:
    """Pursues the step that it is given. Same observation and step, same chunk, while noise_scale is 0."""

    def __init__(self, head: ActionDecoder, config: PolicyConfig | None = None, seed: int = 0) -> None:
        self.head, self._config = head, config or PolicyConfig()
        self._generator = torch.Generator().manual_seed(seed)

    @classmethod
    def load(cls, weights: str | Path, device: str | torch.device = "cpu") -> "StepPolicy":
        """Of released weights or a weights folder. Raises `UnknownNameError`, `WeightsError`."""
        head = ActionDecoder.load(resolve_weights(weights))
        head.head.to(device)
        return cls(head)

    def chunk(self, observation: Observation, step: PlanStep) -> ActionChunk:
        """Every action that the head predicts, (action_horizon, A), the first one for the observation's time.

        Raises `UnknownNameError` for a missing camera, `ShapeError` for a wrong image size or state.
        """
        self.head.check(observation)
        context = self.head.encode(observation, step)
        actions = self.head.sample(
            context,
            observation.state,
            generator=self._generator,
            steps=self._config.chunk.flow_steps,
            noise_scale=self._config.chunk.noise_scale,
        )
        return ActionChunk(actions=actions, step=step, progress=context.progress)
