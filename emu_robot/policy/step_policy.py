"""Observation and one plan step in, a whole chunk out. Knows no planner."""

from pathlib import Path

import torch

from emu_robot.core import ActionChunk, Observation, PlanStep
from emu_robot.models.weights import resolve_weights
from emu_robot.policy.action_decoder import ActionDecoder, ActionPrefix
from emu_robot.policy.config import ChunkConfig
from emu_robot.shared.draws import EpisodeSeed


class StepPolicy:
    """Pursues a given step. The same calls in an episode with the same seed give the same chunks."""

    def __init__(self, head: ActionDecoder, config: ChunkConfig | None = None) -> None:
        self.head, self._config = head, config or ChunkConfig()
        self.begin(EpisodeSeed())

    @classmethod
    def load(
        cls, weights: str | Path, device: str | torch.device = "cpu", config: ChunkConfig | None = None
    ) -> "StepPolicy":
        """Load released weights or a weights folder. Raises `UnknownNameError`, `WeightsError`."""
        head = ActionDecoder.load(resolve_weights(weights))
        head.head.to(device)
        return cls(head.fix(), config)

    def begin(self, episode: EpisodeSeed) -> None:
        """Begin an episode. It determines the noise of the chunks."""
        self._episode, self._chunks = episode, 0

    def chunk(self, observation: Observation, step: PlanStep, prefix: ActionPrefix | None = None) -> ActionChunk:
        """All actions that the head predicts, (action_horizon, A), the first one for the observation's time.

        prefix: actions with which the chunk should begin.
        Raises `UnknownNameError` for a missing camera, `ShapeError` for a wrong image size or state.
        """
        seed, self._chunks = self._episode.of_call("chunk", self._chunks), self._chunks + 1
        decoded = self.head.decode(observation, step, self._config, seed=seed, prefix=prefix)
        return ActionChunk(actions=decoded.actions, step=step, progress=decoded.progress)
