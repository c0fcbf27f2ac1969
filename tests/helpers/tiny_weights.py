"""Untrained weights of every stage, small enough to be trained within a test."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emu_robot.models.action_head import ActionHead, HeadConfig
from emu_robot.models.normalize import NormStats, Standardizer
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerSizes
from emu_robot.models.weights import save_weights
from emu_robot.planner.planner import Planner, PlannerConfig, PlannerSettings
from emu_robot.robots.spec import PANDA, RobotLayout
from emu_robot.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from emu_robot.tokenizers.text import TextTokenizer

SIZE = 32


def write_weights(
    folder: Path,
    cameras: tuple[str, ...] = PANDA.cameras,
    layout: RobotLayout = PANDA.layout,
    control_hz: int = PANDA.control_hz,
    dida_path: str = "metric",
) -> Path:
    """For an arm with these cameras, the planner's first, and dimensions; the tabletop's unless told."""
    torch.manual_seed(0)
    text = TextTokenizer.train(["put it away", "task 0", "task 1"], 300)
    text.save(folder)
    image = ImageTokenizerConfig(
        resolution=SIZE, patch_size=8, ch=32, ch_mult=[1], z_channels=16, embed_dim=8, n_embed=64, mid_attention=False
    )
    images = ImageTokenizer(image)
    save_weights(folder, "tokenizer", images.state_dict(), image)
    sizes: Any = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 12}
    model = TransformerSizes(num_attention_heads=4, num_key_value_heads=2, **sizes)
    chosen = PlannerSettings(camera=cameras[0], image_stride=48, model=model)
    settings = replace(PlannerConfig.of(chosen, text, image), dida_path=dida_path)
    Planner(settings, CausalTransformer(settings.model), text, images.eval()).save(folder)
    n_states, n_actions = len(layout.state_names), len(layout.action_names)
    head = HeadConfig(
        cameras=list(cameras), image_size=SIZE, channels=8, keypoints=4, width=32, flow_width=16, text_width=16,
        text_vocabulary=text.size + 1, state_dim=n_states, action_dim=n_actions, relative_dims=layout.relative_dims,
    )  # fmt: skip
    shapes = ((n_states,), (16, n_actions), (2, n_states))
    ones = [Standardizer(np.zeros(shape, np.float32), np.ones(shape, np.float32)) for shape in shapes]
    low, high = np.zeros(n_actions, np.float32), np.ones(n_actions, np.float32)
    standards: Any = dict(zip(("state", "actions", "keyposes"), ones, strict=True))
    stats = NormStats(**standards, action_low=low, action_high=high, segment_steps_p90=80.0)
    extra = {"norm_stats": stats.to_dict(), "layout": asdict(layout), "control_hz": control_hz}
    save_weights(folder, "head", ActionHead(head).state_dict(), head, extra=extra)
    return folder
