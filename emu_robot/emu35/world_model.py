"""The official Emu3.5 as a planner: a question and pictures in, words and pictures out, as they complete."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from emu_robot.core import Image
from emu_robot.emu35.checkpoint import (
    VISION_FILES,
    load_language_model,
    load_vision_tokenizer,
    resolve_checkpoint,
)
from emu_robot.emu35.config import WorldModelConfig
from emu_robot.emu35.generation import InterleavedGenerator
from emu_robot.emu35.prompts import Grid, task_prompt, unconditional_prompt
from emu_robot.emu35.text import Emu3Text
from emu_robot.errors import ShapeError
from emu_robot.models.transformer import CausalTransformer
from emu_robot.tokenizers.image import ImageTokenizer, to_pixels, to_uint8

VISION = "BAAI/Emu3.5-VisionTokenizer"
"""The tokenizer's hub id; a local checkpoint may hold it as its folder `vision`."""


class WorldModel:
    """Text tokenizer, vision tokenizer and language model of one checkpoint. One world model is for one thread."""

    def __init__(self, text: Emu3Text, images: ImageTokenizer, model: CausalTransformer) -> None:
        self.text, self.images, self.model = text, images, model

    def generate(
        self, question: str, pictures: Sequence[Image] = (), config: WorldModelConfig | None = None
    ) -> Iterator[str | Image]:
        """Stretches of text and pictures (H, W, 3) uint8, each as soon as it is complete.

        pictures: (H, W, 3) uint8 of any size. Input is checked at the call. Raises `UnknownNameError` for an unknown
        task, `ShapeError` for what is no picture.
        """
        config = config or WorldModelConfig()
        grids = [self.encode(picture, config.image_area) for picture in pictures]
        asked = task_prompt(self.text, config.task, question, grids)
        free = unconditional_prompt(self.text, grids)
        answer = InterleavedGenerator(self.model, self.text, config.generation).answer(asked, free)
        return (part if isinstance(part, str) else self.decode(part) for part in answer)

    @torch.inference_mode()
    def encode(self, picture: Image, area: int = 720 * 720) -> Grid:
        """Codes (h, w) of a picture (H, W, 3) uint8, resized to about `area` pixels, its sides whole codes."""
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
            raise ShapeError("picture", f"{picture.shape} {picture.dtype}", "(H, W, 3) uint8")
        height, width = sides(picture.shape[0], picture.shape[1], area, self.images.config.downscale)
        from PIL import Image as PillowImage

        resized = PillowImage.fromarray(picture).resize((width, height), PillowImage.Resampling.BICUBIC)
        pixels = to_pixels(torch.from_numpy(np.array(resized))[None].to(self._vision_device))
        return self.images.encode(pixels)[0].cpu().numpy()

    @torch.inference_mode()
    def decode(self, grid: Grid) -> Image:
        """Picture (H, W, 3) uint8 of codes (h, w)."""
        codes = torch.from_numpy(grid.astype(np.int64))[None].to(self._vision_device)
        return to_uint8(self.images.decode(codes))[0].cpu().numpy()

    @property
    def _vision_device(self) -> torch.device:
        return self.images.quant_conv.weight.device


def load_world_model(name_or_path: str | Path, config: WorldModelConfig | None = None) -> WorldModel:
    """An official checkpoint, by folder or hub id ("BAAI/Emu3.5").

    Raises `WeightsError` naming the missing or damaged file, `SystemSetupError` if the hub cannot be reached or the
    devices are too small.
    """
    config = config or WorldModelConfig()
    folder = resolve_checkpoint(name_or_path)
    text = Emu3Text.load(folder)
    own = folder / "vision"
    vision = resolve_checkpoint(config.vision or (own if own.is_dir() else VISION), VISION_FILES)
    model = load_language_model(folder, config.placement)
    images = load_vision_tokenizer(vision, device=model.lm_head.weight.device)
    return WorldModel(text, images, model)


def sides(height: int, width: int, area: int, multiple: int) -> tuple[int, int]:
    """Height and width of about `area` pixels in the same proportion, both multiples of `multiple`."""
    scale = (area / (height * width)) ** 0.5
    return max(multiple, round(height * scale / multiple) * multiple), max(
        multiple, round(width * scale / multiple) * multiple
    )
