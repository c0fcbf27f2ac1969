"""Interleaved text and images from the official model: what is forced is forced, what is sampled is sampled apart.

Words come from ids below the visual ones. Inside an image the size, the row ends and the image end follow from the
position; every other place takes a visual code, with classifier-free guidance on request: u + s (c - u) of the
log-probabilities of the conditional stream c and of one that has not read the question. Later images have the first
one's size. Knows ids, not pixels.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from emu_robot.emu35.config import GenerationConfig
from emu_robot.emu35.placement import block_devices
from emu_robot.emu35.prompts import Grid
from emu_robot.emu35.text import Emu3Text
from emu_robot.errors import InvalidValueError
from emu_robot.models.transformer import CausalTransformer, KVCache
from emu_robot.planner.decoding.sampling import sample

SIZE = re.compile(r"(\d+)\*(\d+)")
MAX_SIZE_IDS = 12


@dataclass(kw_only=True)
class _Stream:
    """One sequence in the cache and the ids it has not read yet."""

    cache: KVCache
    pending: list[int] = field(default_factory=list)


class InterleavedGenerator:
    """Answers one prompt at a time; yields a `str` for each stretch of text and a (h, w) array for each image."""

    def __init__(self, model: CausalTransformer, text: Emu3Text, config: GenerationConfig) -> None:
        if model.config.vocab_size < text.size:
            raise InvalidValueError(f"the model knows {model.config.vocab_size} ids, its tokenizer has {text.size}")
        self._model, self._text, self._config = model, text, config
        self._device, self._dtype = model.lm_head.weight.device, model.lm_head.weight.dtype

    @torch.inference_mode()
    def answer(self, prompt: Sequence[int], unconditional: Sequence[int]) -> Iterator[str | Grid]:
        """Text and images as they complete. `unconditional`: the prompt of the guiding stream.

        Raises `InvalidValueError` when prompt and answer do not fit `max_ids`.
        """
        config, ids = self._config, self._text.ids
        if len(prompt) + 1 > config.max_ids:
            raise InvalidValueError(f"the prompt has {len(prompt)} ids; max_ids is {config.max_ids}")
        self._generator = torch.Generator(self._device).manual_seed(config.seed)
        self._size, self._left = config.size, config.max_ids - len(prompt)
        self._asked = self._stream(prompt)
        self._free = self._stream(unconditional) if config.guidance > 1 else None
        for _ in range(config.max_images):
            words, stop = self._words()
            if words:
                yield self._text.decode(words)
            if stop != ids.boi:
                return
            grid = self._image()
            if grid is None:
                return
            yield grid

    def _stream(self, prompt: Sequence[int]) -> _Stream:
        slots, places = len(prompt) + self._left + 1, block_devices(self._model)
        cache = KVCache(self._model.config, 1, slots, self._device, self._dtype, places)
        return _Stream(cache=cache, pending=list(prompt))

    def _read(self, stream: _Stream) -> Tensor:
        """(D,) hidden state after all pending ids."""
        tokens = torch.tensor([stream.pending], device=self._device)
        stream.pending = []
        return self._model.model(tokens, cache=stream.cache)[0, -1]

    def _append(self, token: int, *, image: bool) -> None:
        self._left -= 1
        self._asked.pending.append(token)
        if image and self._free is not None:
            self._free.pending.append(token)

    def _words(self) -> tuple[list[int], int | None]:
        """Ids of text up to boi, the end of the answer or of the budget; and which of them it was."""
        ids, words = self._text.ids, []
        ends = (ids.boi, ids.end_answer, ids.eos)
        config = self._config
        while self._left > 0:
            logits = self._model.logits(self._read(self._asked), slice(0, ids.first_code)).float()
            logits[[ids.img, ids.eoi, ids.eol, ids.pad]] = -torch.inf
            token = int(
                sample(logits[None], config.text_temperature, config.text_top_k, self._generator, config.text_top_p)
            )
            self._append(token, image=token == ids.boi)
            if token in ends:
                return words, token
            words.append(token)
        return words, None

    def _image(self) -> Grid | None:
        """The codes of one image, boi read already; None when the budget does not hold it."""
        ids = self._text.ids
        if self._size is None:
            self._size = self._write_size()
        else:
            for token in [*self._text.encode(f"{self._size[0]}*{self._size[1]}"), ids.img]:
                self._append(token, image=True)
        height, width = self._size
        if self._left < height * (width + 1):
            return None
        grid = np.zeros((height, width), np.int64)
        for row in range(height):
            if row:
                self._append(ids.eol, image=True)
            for column in range(width):
                token = self._code()
                grid[row, column] = token - ids.first_code
                self._append(token, image=True)
        self._append(ids.eoi, image=True)
        return grid

    def _write_size(self) -> tuple[int, int]:
        """Let the model write "h*w" and img. Raises `InvalidValueError` if what it writes is no size."""
        ids = self._text.ids
        allowed = sorted({token for sign in "0123456789*" for token in self._text.encode(sign)} | {ids.img})
        written: list[int] = []
        while len(written) < MAX_SIZE_IDS:
            logits = self._model.logits(self._read(self._asked), slice(0, ids.first_code)).float()
            token = allowed[int(logits[allowed].argmax())]
            self._append(token, image=True)
            if token == ids.img:
                break
            written.append(token)
        size = SIZE.fullmatch(self._text.decode(written))
        if size is None or not int(size[1]) * int(size[2]):
            raise InvalidValueError(
                f"the model wrote {self._text.decode(written)!r} for an image's size; give size=h,w to force one"
            )
        return int(size[1]), int(size[2])

    def _code(self) -> int:
        """The next visual id, guided."""
        config, codes = self._config, slice(self._text.ids.first_code, self._text.size)
        logits = self._model.logits(self._read(self._asked), codes).float()
        if self._free is not None:
            free = self._model.logits(self._read(self._free), codes).float().log_softmax(-1)
            logits = free + config.guidance * (logits.log_softmax(-1) - free)
        chosen = sample(logits[None], config.image_temperature, config.image_top_k, self._generator)
        return int(chosen) + codes.start
