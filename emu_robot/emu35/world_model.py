"""The official Emu3.5 as a planner: a question and pictures in, words and pictures out, as they complete."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from emu_robot.core import Image
from emu_robot.emu35.answer import End, Words
from emu_robot.emu35.checkpoint import (
    VISION_FILES,
    load_language_model,
    load_vision_tokenizer,
    read_language_config,
    read_vision_config,
    resolve_checkpoint,
)
from emu_robot.emu35.config import WorldModelConfig
from emu_robot.emu35.generation import InterleavedGenerator
from emu_robot.emu35.placement import Demand
from emu_robot.emu35.prompts import Grid, answered_so_far, task_prompt, unconditional_prompt
from emu_robot.emu35.text import RANKS, Emu3Text
from emu_robot.emu35.text import VISION as CODES
from emu_robot.errors import ShapeError, WeightsError
from emu_robot.models.transformer import CausalTransformer
from emu_robot.tokenizers.image import ImageTokenizer, to_pixels, to_uint8

VISION = "BAAI/Emu3.5-VisionTokenizer"
"""The tokenizer's hub id; a local checkpoint may hold it as its folder `vision`."""


class WorldModel:
    """Text tokenizer, vision tokenizer and language model of one checkpoint. One world model is for one thread."""

    def __init__(self, text: Emu3Text, images: ImageTokenizer, model: CausalTransformer) -> None:
        self.text, self.images, self.model = text, images, model

    def generate(
        self,
        question: str,
        pictures: Sequence[Image] = (),
        config: WorldModelConfig | None = None,
        *,
        past: Sequence[tuple[str, Image]] = (),
    ) -> Iterator[Words | Image | End]:
        """Stretches of words and pictures (H, W, 3) uint8, each as soon as it is complete, and at last an `End`.

        pictures: (H, W, 3) uint8 of any size. past: the steps taken so far, oldest first: the words of each and the
        picture that was seen after it. They stand in the answer as the model's own would, and it goes on.

        Input is checked at the call. Raises `ShapeError` for a wrong array, `InvalidValueError` when the prompt leaves
        no room for an answer.
        """
        config = config or WorldModelConfig()
        grids = [self.encode(picture, config.area) for picture in pictures]
        asked = task_prompt(self.text, config.task, question, grids)
        free = unconditional_prompt(self.text, grids)
        taken = [(words, self.encode(picture, config.area)) for words, picture in past]
        asked += answered_so_far(self.text, taken)
        free += answered_so_far(self.text, [("", grid) for _, grid in taken])
        grids += [grid for _, grid in taken]
        seen = (grids[-1].shape[0], grids[-1].shape[1]) if grids else None
        generator = InterleavedGenerator(self.model, self.text, config.generation, config.task)
        answer = generator.answer(asked, free, seen)
        return (part if isinstance(part, Words | End) else self.decode(part) for part in answer)

    @torch.inference_mode()
    def encode(self, picture: Image, area: int) -> Grid:
        """Codes (h, w) of a picture (H, W, 3) uint8, resized to about `area` pixels; its sides are whole codes."""
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
    """Load an official checkpoint by folder or hub id ("BAAI/Emu3.5").

    Raises `WeightsError` naming the missing or damaged file, `SystemSetupError` if the hub cannot be reached or the
    devices are too small for the weights and an answer of `max_ids`.
    """
    config = config or WorldModelConfig()
    folder = resolve_checkpoint(name_or_path)
    text, language = Emu3Text.load(folder), read_language_config(folder)
    if language.vocab_size < text.size:
        raise WeightsError(
            f"{folder}: config.json says vocab_size={language.vocab_size}, {RANKS} and {CODES} need {text.size}"
        )
    own = folder / "vision"
    vision = resolve_checkpoint(config.vision or (own if own.is_dir() else VISION), VISION_FILES)
    if (known := read_vision_config(vision).n_embed) < text.ids.n_codes:
        raise WeightsError(f"{vision}: config.yaml says n_embed={known}, {CODES} names {text.ids.n_codes} codes")
    images = load_vision_tokenizer(vision)
    generation = config.generation.for_task(config.task)
    demand = Demand(
        ids=generation.max_ids,
        rows=2 if generation.guidance != 1 else 1,
        beside=sum(tensor.nbytes for tensor in images.state_dict().values()),
    )
    model = load_language_model(folder, config.placement, demand)
    return WorldModel(text, images.to(model.lm_head.weight.device), model)


def sides(height: int, width: int, area: int, multiple: int) -> tuple[int, int]:
    """Height and width of about `area` pixels in the same proportion: whole pixels, then the nearest multiple of
    `multiple`, at least one."""
    ratio = width / height
    high = int((area / ratio) ** 0.5)
    wide = int(high * ratio)
    nearest = [(side + multiple // 2) // multiple * multiple for side in (high, wide)]
    return max(multiple, nearest[0]), max(multiple, nearest[1])
