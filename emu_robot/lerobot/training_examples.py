"""Inputs of our losses that a LeRobotDataset's batch lacks: subtasks, keyframes, whole episodes of numbers.

LeRobot's batches hold the frame of a sample (`index`). The rest comes from a replay buffer that `prepare` made of the
set, with every number of it and pictures of starts and keyframes only.
"""

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emu_robot.data.prepare import PrepareConfig, locate, prepare, record_of
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import SystemSetupError
from emu_robot.models.action_head import HeadConfig
from emu_robot.models.normalize import RelativeActions
from emu_robot.models.weights import stage_hash
from emu_robot.planner.planner import Planner
from emu_robot.training.head import SPARE_TEXT
from emu_robot.training.head_data import Demonstrations
from emu_robot.training.head_goals import reconstructed_goals
from emu_robot.training.head_sampler import GoalImages, HeadSampler, Images, SamplingConfig
from emu_robot.training.loop import LoopConfig
from emu_robot.training.planner_config import SequenceConfig
from emu_robot.training.planner_data import PlanQueries
from emu_robot.training.sequence_sampler import SequenceSampler

MARKED_ONLY = 1_000_000_000
"""Value of `image_every` that stores pictures of starts and keyframes alone."""
WAIT_S = 900.0
"""Longest wait for another process of the same training that prepares the set [s]."""


def prepare_once(config: PrepareConfig) -> ReplayBuffer:
    """The prepared set. One of several processes prepares it and the others wait.

    The folder's name ends with a digest of the set's contents and the settings, so that other contents or settings get
    a folder beside it.
    """
    record = record_of(config, locate(config.dataset))
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]
    config = replace(config, out=config.out.with_name(f"{config.out.name}_{digest}"))
    until = time.monotonic() + WAIT_S
    while True:
        try:
            return ReplayBuffer.open(prepare(config))
        except SystemSetupError:
            if time.monotonic() > until:
                raise
            time.sleep(1.0)


class TrainingExamples:
    """Looks up examples for head and planner by global frame index.

    config: the head's configuration, fitted to the set. stats: statistics that normalise its numbers.
    """

    def __init__(self, buffer: ReplayBuffer, head: HeadConfig, planner: Planner, weights: Path) -> None:
        """head: the initial configuration; dimensions and text length are fitted to the set."""
        data, layout = Demonstrations.load(buffer, head.cameras), buffer.layout
        self.longest_words = planner.text.longest({*data.segments.text_K, *data.segments.instruction_K})
        self.config = replace(
            head,
            state_dim=len(layout.state_names),
            action_dim=len(layout.action_names),
            relative_dims=layout.relative_dims,
            text_length=max(head.text_length, self.longest_words + SPARE_TEXT),
        )
        self.layout, self.control_hz = layout, int(buffer.metadata[0]["fps"])
        frames = np.flatnonzero(data.segments.at(np.arange(len(data.state))) >= 0)
        relative = RelativeActions(layout.relative_dims)
        self.stats = data.norm_stats(self.config.action_horizon, relative, self.config.keyposes, frames)
        self._data = data
        self._sampler = HeadSampler(
            data,
            np.flatnonzero(data.segment_M >= 0),
            self.stats,
            self.config,
            SamplingConfig(shift=0, noise=0.015, generated=0.0),
            planner.text.encode,
            goals=GoalImages(reconstructed=reconstructed_goals(data, weights, torch.device("cpu"))),
            batch_size=1,
            seed=0,
        )
        camera = head.cameras[0]
        buffer.encode(camera, planner.images.encode_images, stage_hash(weights, "tokenizer"))
        self._queries = PlanQueries.load(buffer, camera, weights, every_frame=True)
        self._sequences = SequenceSampler(self._queries, planner.interleaver, SequenceConfig(), LoopConfig(), 0.0)

    def in_subtask(self, frame: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each frame (B,) lies in a completed subtask; the head learns from no others."""
        return self._data.segments.at(frame) >= 0

    def of_head(
        self, frame: NDArray[np.int64], views: dict[str, Images], rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """A batch for the head; views: camera -> (B, H, W, 3) uint8."""
        batch = self._sampler.examples(frame, self._data.segments.at(frame), rng)
        return batch | {f"view.{camera}": self._sampler.disturb(images, rng) for camera, images in views.items()}

    def of_planner(
        self, frame: NDArray[np.int64], codes: NDArray[np.uint32], rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """A batch for the planner of the frames with an answer; codes: (B, n) of their pictures."""
        query = np.searchsorted(self._queries.frame, frame).clip(max=len(self._queries) - 1)
        known = self._queries.frame[query] == frame
        images = {
            b: [own, *(step.codes for step in self._queries.steps(int(q), 1))]
            for b, (q, own) in enumerate(zip(query[known], codes[known], strict=True))
        }
        return self._sequences.tensors(self._sequences.collate(self._sequences.rows(query[known], 1, images, rng), rng))


def seeded(frame: NDArray[np.int64]) -> np.random.Generator:
    """A generator seeded by a batch's frames (B,) and their order, so that a resumed training repeats its numbers.

    LeRobot resumes the order of samples exactly, but not torch's random state.
    """
    return np.random.default_rng(frame)
