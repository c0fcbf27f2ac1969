"""Generate interleaved text and images with the official model. Fixed ids are forced, words and codes sampled apart.

Words come from ids below the visual ones. Inside an image the size, the row ends and the image end follow from the
position; every other place takes a visual code, with classifier-free guidance on request: u + s (c - u) of the
log-probabilities of the conditional row c and of one that has not read the question. Knows ids, not pixels.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from emu_robot.emu35.answer import End, EndReason, Role, Words
from emu_robot.emu35.config import GenerationConfig
from emu_robot.emu35.placement import block_devices
from emu_robot.emu35.prompts import Grid
from emu_robot.emu35.text import Emu3Text
from emu_robot.errors import InvalidValueError, SystemSetupError
from emu_robot.models.kv_cache import KVCache
from emu_robot.models.transformer import CausalTransformer
from emu_robot.planner.decoding.sampling import sample

type Size = tuple[int, int]
CHOICE = (0, 0)
"""As `GenerationConfig.size`: the model writes the first image's size itself."""


class InterleavedGenerator:
    """Answers one prompt at a time: `Words`, an (h, w) array for each image, and `End`."""

    def __init__(self, model: CausalTransformer, text: Emu3Text, config: GenerationConfig, task: str = "vla") -> None:
        """task: its presets replace each None in `config`."""
        if model.config.vocab_size < text.size:
            raise InvalidValueError(f"the model knows {model.config.vocab_size} ids, its tokenizer has {text.size}")
        self._model, self._text, self._config = model, text, config.for_task(task)
        self._digits = [one_id(text, digit) for digit in "0123456789"]

    @torch.inference_mode()
    def answer(
        self, prompt: Sequence[int], unconditional: Sequence[int], seen: Size | None = None
    ) -> Iterator[Words | Grid | End]:
        """The parts of an answer as they complete.

        unconditional: the prompt of the guiding row. seen: size of the last image in the prompt.
        Raises `InvalidValueError` when the prompt does not fit `max_ids`, `SystemSetupError` when memory runs out.
        """
        config = self._config
        if len(prompt) + 1 > config.max_ids:
            raise InvalidValueError(f"the prompt has {len(prompt)} ids; max_ids is {config.max_ids}")
        self._generator = torch.Generator(self._model.lm_head.weight.device).manual_seed(config.seed)
        size = config.size or seen
        self._size = None if size == CHOICE else size
        self._left, self._role = config.max_ids - len(prompt), Role.TEXT
        rows = [prompt, unconditional] if _value(config.guidance) > 1 else [prompt]
        self._rows = _Rows(self._model, rows, config.max_ids)
        try:
            yield from self._parts()
        except torch.OutOfMemoryError as error:
            used = config.max_ids - self._left
            raise SystemSetupError(
                f"the device's memory holds no more than {used} ids of max_ids={config.max_ids}; place the model with "
                "the max_ids that it shall answer with"
            ) from error

    def _parts(self) -> Iterator[Words | Grid | End]:
        ids, images = self._text.ids, 0
        while True:
            words, stop = self._words()
            yield from self._split(words)
            if stop == ids.eos:
                yield End(reason=EndReason.COMPLETE)
                return
            if stop != ids.boi:
                yield End(reason=EndReason.MAX_IDS, detail=f"prompt and answer have max_ids={self._config.max_ids} ids")
                return
            if images == self._config.max_images:
                yield End(reason=EndReason.MAX_IMAGES, detail=f"max_images={images} pictures are drawn")
                return
            grid = self._image()
            yield grid
            if isinstance(grid, End):
                return
            images += 1

    def _split(self, words: Sequence[int]) -> Iterator[Words]:
        """Words by role, without the marks between them and at the answer's end."""
        ids, stretch = self._text.ids, list[int]()
        turns = {
            ids.begin_global: Role.GLOBAL_REASONING,
            ids.end_global: Role.TEXT,
            ids.begin_picture: Role.PICTURE_REASONING,
            ids.end_picture: Role.TEXT,
        }
        for token in [*words, None]:
            if token is not None and token not in turns:
                stretch += [token] if token != ids.end_answer else []
                continue
            said = self._text.decode(stretch)
            if said.strip():
                yield Words(text=said, role=self._role)
            stretch.clear()
            self._role = self._role if token is None else turns[token]

    def _append(self, token: int, *, image: bool) -> None:
        self._left -= 1
        for row in self._rows.pending if image else self._rows.pending[:1]:
            row.append(token)

    def _words(self) -> tuple[list[int], int | None]:
        """Ids of text, and the id that ended it: boi or the answer's end, None for the end of the budget."""
        ids, words, config = self._text.ids, [], self._config
        while self._left > 0:
            logits = self._model.logits(self._rows.read()[:1], slice(0, ids.first_code)).float()
            logits[:, [ids.img, ids.eoi, ids.eol, ids.pad]] = -torch.inf
            top_k, top_p = int(_value(config.text_top_k)), _value(config.text_top_p)
            token = int(sample(logits, _value(config.text_temperature), top_k, self._generator, top_p))
            self._append(token, image=token == ids.boi)
            if token in (ids.boi, ids.eos):
                return words, token
            words.append(token)
        return words, None

    def _image(self) -> Grid | End:
        """The codes of one image after its boi; `End` if the budget does not hold it."""
        ids, size = self._text.ids, self._size
        written = self._text.encode(f"{size[0]}*{size[1]}") if size else [0] * 5
        least = size or (10, 10)
        if self._left < len(written) + 1 + least[0] * (least[1] + 1):
            return self._too_large(least, len(written) + 1)
        if size is None:
            size = self._size = self._choose_size()
        else:
            for token in written:
                self._append(token, image=True)
        self._append(ids.img, image=True)
        height, width = size
        if self._left < height * (width + 1):
            return self._too_large(size, 0)
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

    def _too_large(self, size: Size, before: int) -> End:
        detail = (
            f"a picture of {size[0]}*{size[1]} codes takes {before + size[0] * (size[1] + 1)} ids, "
            f"{self._left} of max_ids={self._config.max_ids} are left"
        )
        return End(reason=EndReason.PICTURE_TOO_LARGE, detail=detail)

    def _choose_size(self) -> Size:
        """The size that the model writes as "DD*DD"; the first digit of a side is not 0."""
        sides: list[int] = []
        for side in range(2):
            tens = self._digit(1)
            sides.append(10 * tens + self._digit(0))
            if side == 0:
                self._append(one_id(self._text, "*"), image=True)
        return sides[0], sides[1]

    def _digit(self, least: int) -> int:
        """One digit, drawn as codes are, but without guidance."""
        allowed = self._digits[least:]
        logits = self._model.logits(self._rows.read()[:1], slice(0, self._text.ids.first_code)).float()[:, allowed]
        chosen = int(
            sample(logits, self._config.image_temperature, int(_value(self._config.image_top_k)), self._generator)
        )
        self._append(allowed[chosen], image=True)
        return least + chosen

    def _code(self) -> int:
        """The next visual id, guided."""
        config, codes = self._config, slice(self._text.ids.first_code, self._text.size)
        logits = self._model.logits(self._rows.read(), codes).float()
        if len(logits) == 2:
            asked, free = logits.log_softmax(-1).split(1)
            logits = free + _value(config.guidance) * (asked - free)
        chosen = sample(logits, config.image_temperature, int(_value(config.image_top_k)), self._generator)
        return int(chosen) + codes.start


class _Rows:
    """The conditional and, with guidance, the unconditional sequence over one cache: a pass serves both."""

    def __init__(self, model: CausalTransformer, prompts: Sequence[Sequence[int]], slots: int) -> None:
        self._model, self._device = model, model.lm_head.weight.device
        self.pending = [list(prompt) for prompt in prompts]
        self._lengths = [0 for _ in prompts]
        places, dtype = block_devices(model), model.lm_head.weight.dtype
        self._cache = KVCache(model.config, len(prompts), slots, self._device, dtype, places)

    def read(self) -> Tensor:
        """(rows, D) hidden states after each row's last pending id; undefined for a row without any."""
        length = max(map(len, self.pending))
        ids, positions, valid = [], [], []
        for row, tokens in enumerate(self.pending):
            padding, begin = length - len(tokens), self._lengths[row]
            ids.append([0] * padding + tokens)
            positions.append([0] * padding + list(range(begin, begin + len(tokens))))
            valid.append([False] * padding + [True] * len(tokens))
            self._lengths[row] += len(tokens)
            self.pending[row] = []
        ids_BL, positions_BL = (torch.tensor(block, device=self._device) for block in (ids, positions))
        valid_BL = None if all(map(all, valid)) else torch.tensor(valid, device=self._device)
        return self._model.model(ids_BL, positions_BL, cache=self._cache, valid_BL=valid_BL)[:, -1]


def one_id(text: Emu3Text, sign: str) -> int:
    """The id of a character. Raises `InvalidValueError` if the vocabulary splits it."""
    ids = text.encode(sign)
    if len(ids) != 1:
        raise InvalidValueError(f"the vocabulary spells {sign!r} with {len(ids)} ids; sizes need one for each sign")
    return ids[0]


def _value[T](setting: T | None) -> T:
    """A setting that `for_task` has filled in."""
    assert setting is not None
    return setting
