"""Observation and one plan step in, a whole chunk out. The planner is elsewhere."""

from pathlib import Path

import torch

from emu_robot.core import ActionChunk, Observation, PlanStep
from emu_robot.models.weights import resolve_weights
from emu_robot.policy.action_decoder import ActionDecoder, ActionPrefix
from emu_robot.policy.config import ChunkConfig
from emu_robot.shared.draws import EpisodeSeed


class StepPolicy:
    """Pursues the step that it is given. The same calls in an episode of the same seed give the same chunks."""

    def __init__(self, head: ActionDecoder, config: ChunkConfig | None = None) -> None:
        self.head, self._config = head, config or ChunkConfig()
        self.begin(EpisodeSeed())

    @classmethod
    def load(
        cls, weights: str | Path, device: str | torch.device = "cpu", config: ChunkConfig | None = None
    ) -> "StepPolicy":
        """Of released weights or a weights folder. Raises `UnknownNameError`, `WeightsError`."""
        head = ActionDecoder.load(resolve_weights(weights))
        head.head.to(device)
        return cls(head, config)

    def begin(self, episode: EpisodeSeed) -> None:
        """An episode begins, from which the noise of its chunks follows."""
        self._episode, self._chunks = episode, 0

    def chunk(self, observation: Observation, step: PlanStep, prefix: ActionPrefix | None = None) -> ActionChunk:
        """Every action that the head predicts, (action_horizon, A), the first one for the observation's time.

        prefix: what the chunk is to begin with.
        Raises `UnknownNameError` for a missing camera, `ShapeError` for a wrong image size or state.
        """
        seed, self._chunks = self._episode.of_call("chunk", self._chunks), self._chunks + 1
        decoded = self.head.decode(observation, step, self._config, seed=seed, prefix=prefix)
        return ActionChunk(actions=decoded.actions, step=step, progress=decoded.progress)
