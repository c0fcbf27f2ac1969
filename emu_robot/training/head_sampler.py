"""Batches for the action head: choice of frames, goals and words, and their augmentation.

Every batch depends on (seed, step) alone. Suffixes: B batch, M images, K subtasks, N noise samples, L text ids.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emu_robot.core import Floats
from emu_robot.errors import ConfigError, InvalidValueError
from emu_robot.models.action_head import HeadConfig, text_ids
from emu_robot.models.flow import sample_times
from emu_robot.models.normalize import NormStats, RelativeActions
from emu_robot.shared.settings import check_ranges, number
from emu_robot.tokenizers.image import to_pixels
from emu_robot.training.head_data import Demonstrations, Ints
from emu_robot.training.loop import step_rng

type Images = NDArray[np.uint8]

NOISE_POOL = 1 << 22
"""Size of a pool of normal numbers. Each image's noise is a piece of it, as drawing is slow."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How examples are drawn."""

    no_goal: float = number(0.25, 0, 1)
    """Probability that the goal image is dropped."""
    instruction_only: float = number(0.5, 0, 1)
    """Share of examples without a goal that get the whole instruction as words and run on across subtasks."""
    no_text: float = number(0.05, 0, 1)
    """Probability that words are dropped though there is a goal."""
    reconstructed: float = number(0.6, 0, 1)
    """Share of goals that have been through the image tokenizer."""
    generated: float = number(0.25, 0, 1)
    """Share of goals drawn by the planner, where it drew one; with `reconstructed` at most 1."""
    goal_window: int = number(3, 0)
    """Frames before the keyframe that may serve as goals, besides those of its dwell."""
    event_weight: float = number(1.5, 0)
    """Weight of frames near a gripper event; others have 1."""
    event_radius: int = number(8, 0)
    """Number of frames before a gripper event that count as near it."""
    dwell_weight: float = number(2.0, 0)
    """Weight of frames after the keyframe; others have 1."""
    intervention_share: float = number(0.5, 0, 1)
    """Share of the examples that show a person's correction of a policy, where a set has such and others."""
    verb_weights: dict[str, float] = field(default_factory=dict)
    """First word of a subtask -> weight of its frames, at least 0; others have 1."""
    shift: int = number(1, 0)
    """Largest random translation of an image [px]."""
    brightness: float = number(0.08, 0)
    """Largest random change of an image's brightness, as a share of the range of pixels."""
    contrast: float = number(0.08, 0)
    """Largest random change of an image's contrast, as a factor less 1."""
    noise: float = number(0.02, 0)
    """Standard deviation of the noise on pixels in [-1, 1]."""
    flow_samples: int = number(4, 1)
    """Noise samples per example."""

    def __post_init__(self) -> None:
        check_ranges(self, "sampling")
        if self.reconstructed + self.generated > 1:
            raise InvalidValueError("sampling.reconstructed and sampling.generated add up to more than 1")
        if any(weight < 0 for weight in self.verb_weights.values()):
            raise InvalidValueError(f"sampling.verb_weights is {self.verb_weights}, no weight may be negative")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        idle = {} if self.no_goal else {"instruction_only": "no_goal=0 drops no goal"}
        return idle | ({"event_radius": "event_weight=1 weighs all frames alike"} if self.event_weight == 1 else {})


class GeneratedGoals(NamedTuple):
    """The planner's subgoals: images (G, H, W, 3) uint8; row_K: each subtask's row, -1 if none."""

    images: Images
    row_K: Ints


@dataclass(kw_only=True)
class GoalImages:
    """Goals other than true camera images; reconstructed (K, H, W, 3) uint8, one per subtask."""

    reconstructed: Images | None = None
    generated: GeneratedGoals | None = None


class HeadSampler:
    """Turns demonstrations into training batches; call it with the step."""

    def __init__(
        self,
        data: Demonstrations,
        rows_M: Ints,
        stats: NormStats,
        model: HeadConfig,
        sampling: SamplingConfig,
        encode_text: Callable[[str], Sequence[int]],
        *,
        goals: GoalImages | None = None,
        batch_size: int,
        seed: int,
    ) -> None:
        self._data, self._rows, self._stats, self._model, self._sampling = data, rows_M, stats, model, sampling
        self._views = {camera: data.images[camera] for camera in model.cameras}
        self._goals = goals or GoalImages()
        self._batch_size, self._seed = batch_size, seed
        self._relative = RelativeActions(model.relative_dims)
        self._cumulative = np.cumsum(frame_weights(data, rows_M, sampling))
        sentences = sorted({*data.segments.text_K, *data.segments.instruction_K})
        index = {sentence: i for i, sentence in enumerate(sentences)}
        self._text_table = np.stack([text_ids(encode_text(sentence), model) for sentence in sentences])
        self._text_K = np.array([index[text] for text in data.segments.text_K])
        self._instruction_K = np.array([index[text] for text in data.segments.instruction_K])
        window = np.maximum(data.segments.keyframe_K - sampling.goal_window, data.segments.start_K)
        self._goal_first_K = np.searchsorted(data.frame_M, window)
        self._goal_last_K = np.searchsorted(data.frame_M, data.segments.end_K)
        self._noise = torch.randn(NOISE_POOL, generator=torch.Generator().manual_seed(seed))

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Keys and shapes: view.<camera>, goal (B, 3, H, W) in about [-1, 1]; has_goal (B,) bool; text (B, L) int64;
        state (B, S), actions (B, T, A), keyposes (B, P, S), all normalised; remaining (B, P) steps / 100;
        progress, has_progress (B,); noise (B, N, T*A); time (B, N).
        """
        rng = step_rng(self._seed, step)
        drawn = np.searchsorted(self._cumulative, rng.random(self._batch_size) * self._cumulative[-1], side="right")
        rows = self._rows[drawn]
        batch = self.examples(self._data.frame_M[rows], self._data.segment_M[rows], rng)
        for camera, images in self._views.items():
            batch[f"view.{camera}"] = self.disturb(images[rows], rng)
        return batch

    def examples(self, frame: Ints, segment: Ints, rng: np.random.Generator) -> dict[str, Tensor]:
        """A batch of these frames (B,) within their completed subtasks (B,); the views are left to the caller."""
        has_goal = rng.random(len(frame)) >= self._sampling.no_goal
        flat = ~has_goal & (rng.random(len(frame)) < self._sampling.instruction_only)
        batch = self._numbers(frame, segment, flat)
        text = np.where(flat, self._instruction_K[segment], self._text_K[segment])
        ids = self._text_table[text]
        ids[has_goal & (rng.random(len(frame)) < self._sampling.no_text)] = 0
        batch |= {"text": torch.from_numpy(ids), "has_goal": torch.from_numpy(has_goal)}
        batch["goal"] = self.disturb(self._goal_images(segment, rng), rng)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        shape = (len(frame), self._sampling.flow_samples)
        batch["noise"] = torch.randn(*shape, batch["actions"][0].numel(), generator=generator)
        batch["time"] = sample_times(shape, generator)
        return batch

    def _numbers(self, frame: Ints, segment: Ints, flat: NDArray[np.bool_]) -> dict[str, Tensor]:
        data, model = self._data, self._model
        start, keyframe = data.segments.start_K[segment], data.segments.keyframe_K[segment]
        last = np.where(flat, data.taught_end_N[frame] - 1, data.last_frames(frame, segment))
        state = data.state[frame]
        chunk = data.chunks(frame, last, model.action_horizon)
        events = data.coming_events(frame, np.maximum(last, frame), model.keyposes)
        progress = np.clip((frame - start) / np.maximum(keyframe - start, 1), 0, 1)
        arrays = {
            "state": self._stats.state.normalize(state),
            "actions": self._stats.actions.normalize(self._relative.encode(chunk, state)),
            "keyposes": self._stats.keyposes.normalize(data.state[events] - state[:, None]),
            "remaining": ((events - frame[:, None]) / 100).astype(np.float32),
            "progress": progress.astype(np.float32),
            "has_progress": (~flat).astype(np.float32),
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _goal_images(self, segment: Ints, rng: np.random.Generator) -> Images:
        first, last = self._goal_first_K[segment], self._goal_last_K[segment]
        images = self._data.goal_view[rng.integers(first, np.maximum(last, first + 1))]
        kind = rng.random(len(segment))
        goals, sampling = self._goals, self._sampling
        if goals.generated is not None:
            drawn = goals.generated.row_K[segment]
            chosen = (kind < sampling.generated) & (drawn >= 0)
            images[chosen] = goals.generated.images[drawn[chosen]]
        if goals.reconstructed is not None:
            chosen = kind >= 1 - sampling.reconstructed
            images[chosen] = goals.reconstructed[segment[chosen]]
        return images

    def disturb(self, images: Images, rng: np.random.Generator) -> Tensor:
        """Images (B, H, W, 3) as the head sees them (B, 3, H, W), each augmented separately."""
        s = self._sampling
        if s.shift:
            images = shift_images(images, rng.integers(-s.shift, s.shift + 1, (len(images), 2)))
        pixels = to_pixels(torch.from_numpy(images))
        contrast, brightness = torch.from_numpy(rng.uniform(-1, 1, (2, len(images), 1, 1, 1)).astype(np.float32))
        pixels.mul_(1 + s.contrast * contrast).add_(2 * s.brightness * brightness)
        if s.noise:
            shape, size = images.shape[1:], images[0].size
            starts = rng.integers(len(self._noise) - size, size=len(images)).tolist()
            for image, start in zip(pixels.permute(0, 2, 3, 1), starts, strict=True):
                image.add_(self._noise[start : start + size].view(shape), alpha=s.noise)
        return pixels


def frame_weights(data: Demonstrations, rows_M: Ints, sampling: SamplingConfig) -> Floats:
    """Relative probability of each of these image rows. Raises `ConfigError` if all are 0."""
    frame, segment = data.frame_M[rows_M], data.segment_M[rows_M]
    keyframe = data.segments.keyframe_K[segment]
    upcoming = data.event_N[frame]
    near = (upcoming - frame <= sampling.event_radius) & (upcoming < keyframe)
    weights = np.where(near, sampling.event_weight, 1.0)
    weights = np.where(frame >= keyframe, sampling.dwell_weight, weights)
    verbs = [text.split()[0] for text in data.segments.text_K]
    weights = weights * np.array([sampling.verb_weights.get(verb, 1.0) for verb in verbs])[segment]
    if not weights.any():
        raise ConfigError(f"sampling.verb_weights={sampling.verb_weights} leaves none of {len(rows_M)} pictures")
    return _with_share(weights, data.intervened_N[frame], sampling.intervention_share)


def _with_share(weights: Floats, intervened: NDArray[np.bool_], share: float) -> Floats:
    """The weights, those of interventions scaled to this share of all, if there are interventions and others."""
    corrected, others = weights[intervened].sum(), weights[~intervened].sum()
    if not corrected or not others:
        return weights
    return weights * np.where(intervened, share / corrected, (1 - share) / others)


def shift_images(images: Images, offsets_B2: Ints) -> Images:
    """Each image translated by its (rows, columns) [px]; uncovered borders keep their pixels."""
    height, width = images.shape[1:3]
    shifted = images.copy()
    for image, source, (dy, dx) in zip(shifted, images, offsets_B2.tolist(), strict=True):
        top, left = max(dy, 0), max(dx, 0)
        bottom, right = height + min(dy, 0), width + min(dx, 0)
        image[top:bottom, left:right] = source[top - dy : bottom - dy, left - dx : right - dx]
    return shifted
