"""The action head in physical units: observation and plan step in, joint targets and progress out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from emu_robot.core import Floats32, Image, Observation, PlanStep, check_image
from emu_robot.errors import ShapeError, UnknownNameError, WeightsError
from emu_robot.models.action_head import ActionHead, HeadConfig, HeadContext, StepFeatures, text_ids
from emu_robot.models.normalize import NormStats, RelativeActions
from emu_robot.models.weights import load_weights, restore
from emu_robot.policy.config import ChunkConfig, GoalMode
from emu_robot.policy.weights_contract import HeadContract, check_steps
from emu_robot.robots.spec import PANDA, RobotLayout
from emu_robot.tokenizers.image import to_pixels
from emu_robot.tokenizers.text import TextTokenizer


class TextEncoding(Protocol):
    """Words -> token ids."""

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class DecodedActions:
    """A chunk in physical units."""

    actions: Floats32
    """(T, A), in the layout of the demonstrations."""
    progress: float
    """Progress through the step, in [0, 1]."""


@dataclass(frozen=True)
class ActionPrefix:
    """Actions of the last chunk with which the next chunk should begin, for real-time chunking."""

    actions: Floats32
    """(K, A), the first one for now."""
    weights: Floats32
    """(K,) in [0, 1]; 1 for actions that will be executed in any case."""


class ActionDecoder:
    """An `ActionHead` with its statistics and its text encoding."""

    def __init__(
        self,
        head: ActionHead,
        stats: NormStats,
        text: TextEncoding,
        layout: RobotLayout = PANDA.layout,
        control_hz: int = PANDA.control_hz,
        goal: GoalMode = GoalMode.PLANNER,
    ) -> None:
        """layout: meaning of state and action. control_hz: actions per second [Hz]. goal: what goal=auto means."""
        self.head = head
        self._config: HeadConfig = head.config
        self._stats, self._text = stats, text
        self.layout, self.control_hz, self.goal = layout, control_hz, goal
        self._relative = RelativeActions(head.config.relative_dims)
        self._fixed = False
        self._read: tuple[PlanStep, StepFeatures] | None = None

    @classmethod
    def load(cls, folder: Path) -> "ActionDecoder":
        """Load a weights folder. Raises `WeightsError` if weights or norm_stats are missing or damaged."""
        weights = load_weights(folder, "head")
        config = weights.settings(HeadConfig)
        head = restore(lambda: ActionHead(config), weights, "head")
        head.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        head.eval().requires_grad_(False)
        stats = NormStats.from_dict(weights.extra.get("norm_stats"))
        contract, text = HeadContract.of(folder, config, weights.extra), TextTokenizer.load(folder)
        stats.check_fit(config.state_dim, (config.action_horizon, config.action_dim), config.keyposes)
        if text.size >= config.text_vocabulary:
            raise WeightsError(f"{folder}: the head reads {config.text_vocabulary - 1} word ids, there are {text.size}")
        return cls(head, stats, text, contract.layout, contract.control_hz, contract.goal)

    def fix(self) -> "ActionDecoder":
        """Settle on its weights and its device, for faster chunks: the head can neither be trained nor moved.

        On a CPU it becomes traced code. Words and image of a step are read once for all chunks that follow it.
        """
        self._fixed = True
        if next(self.head.parameters()).device.type == "cpu":
            self.head.trace()
        return self

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of its cameras, the planner's camera first."""
        return tuple(self._config.cameras)

    @property
    def image_size(self) -> int:
        """Height and width of its images [px]."""
        return self._config.image_size

    def blank_observation(self) -> Observation:
        """A valid observation for the warm-up, with black images and a state of zeros."""
        image = np.zeros((self.image_size, self.image_size, 3), np.uint8)
        state = np.zeros(self._config.state_dim, np.float32)
        return Observation(images=dict.fromkeys(self.cameras, image), state=state)

    @property
    def action_horizon(self) -> int:
        """Actions per chunk."""
        return self._config.action_horizon

    def require_steps(self, n_action_steps: int) -> None:
        """Raise `ConfigError` if a chunk has fewer than `n_action_steps` actions."""
        check_steps(n_action_steps, self.action_horizon)

    @property
    def action_std(self) -> Floats32:
        """(T, A) standard deviations of the demonstrated actions, those relative to the state as far as they are so."""
        return self._stats.actions.std

    @property
    def segment_steps_p90(self) -> float:
        """90th percentile of a subtask's length in the demonstrations [control ticks]."""
        return self._stats.segment_steps_p90

    def check(self, observation: Observation) -> None:
        """Raise `UnknownNameError` for a missing camera, `ShapeError` for a wrong image size or state dimension."""
        size = self._config.image_size
        for camera in self._config.cameras:
            if camera not in observation.images:
                raise UnknownNameError("camera", camera, observation.images)
            check_image(f"image of camera {camera!r}", observation.images[camera], (size, size))
        if observation.state.shape != (self._config.state_dim,):
            raise ShapeError("state", observation.state.shape, f"({self._config.state_dim},)")

    @torch.inference_mode()
    def decode(
        self,
        observation: Observation,
        step: PlanStep,
        config: ChunkConfig,
        *,
        seed: int,
        prefix: ActionPrefix | None = None,
    ) -> DecodedActions:
        """A chunk and the progress through a step, with or without a subgoal image.

        Actions that are not relative to the state are clipped to their demonstrated range. seed: seed of the starting
        noise. prefix: actions with which the chunk should begin. Raises the errors of `check`.
        """
        self.check(observation)
        context = self._encode(observation, step)
        shape = (1, self._config.action_horizon, self._config.action_dim)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * config.noise_scale
        device, state = context.features_BD.device, observation.state
        known = None if prefix is None else self._known(prefix, state, device)
        chunk = self.head.sample(context, noise.to(device), config.flow_steps, known)[0].cpu().numpy()
        actions = self._relative.decode(self._stats.actions.unnormalize(chunk), state)
        free = slice(self._config.relative_dims, None)
        actions[:, free] = actions[:, free].clip(self._stats.action_low[free], self._stats.action_high[free])
        return DecodedActions(actions, float(context.progress_B.sigmoid()))

    def _encode(self, observation: Observation, step: PlanStep) -> HeadContext:
        """Encode the observation together with a plan step."""
        device = next(self.head.parameters()).device
        state = torch.from_numpy(self._stats.state.normalize(observation.state))[None]
        views = [_pixels(observation.images[camera]).to(device) for camera in self._config.cameras]
        return self.head.see(views, state.to(device), self._read_step(step, device))

    def _read_step(self, step: PlanStep, device: torch.device) -> StepFeatures:
        """Words and image of a step; those of the last step are kept if the weights are fixed."""
        if self._read is not None and self._read[0] is step:
            return self._read[1]
        goal = None
        if step.subgoal is not None:
            size = self._config.image_size
            check_image("subgoal", step.subgoal, (size, size))
            goal = _pixels(step.subgoal).to(device)
        ids = torch.from_numpy(text_ids(self._text.encode(step.subtask), self._config))[None]
        features = self.head.read_step(ids.to(device), goal)
        if self._fixed:
            self._read = step, features
        return features

    def _known(self, prefix: ActionPrefix, state: Floats32, device: torch.device) -> tuple[Tensor, Tensor]:
        """Normalised actions (1, T, A) and their weights (1, T, 1)."""
        horizon, given = self._config.action_horizon, prefix.actions[: self._config.action_horizon]
        actions = np.zeros((horizon, self._config.action_dim), np.float32)
        weights = np.zeros((horizon, 1), np.float32)
        actions[: len(given)], weights[: len(given), 0] = given, prefix.weights[: len(given)]
        relative = self._stats.actions.normalize(self._relative.encode(actions, state))
        return torch.from_numpy(relative)[None].to(device), torch.from_numpy(weights)[None].to(device)

    def hold_target(self, state: Floats32, last: Floats32 | None = None) -> Floats32:
        """The action (A,) that stays at `state`. last: the last action, if there was one. See `RobotLayout.hold`."""
        return self.layout.hold(state, typical=self._stats.actions.mean[0], last=last)


def _pixels(image: Image) -> Tensor:
    return to_pixels(torch.from_numpy(np.array(image, copy=True))[None])
