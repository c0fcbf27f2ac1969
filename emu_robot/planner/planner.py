"""Observation and instruction in, plan out: a world model that predicts the next subtasks and their images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emu_robot.core import Image, Observation, PastStep, Plan, PlanStep, check_image
from emu_robot.errors import InvalidValueError, UnknownNameError, WeightsError
from emu_robot.models.int8 import supported, to_int8
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig, TransformerSizes
from emu_robot.models.weights import load_weights, resolve_weights, restore, save_weights
from emu_robot.planner.decoding.config import DecoderConfig
from emu_robot.planner.decoding.factory import make_image_decoder
from emu_robot.planner.decoding.grammar import PlanGrammar
from emu_robot.planner.decoding.noise_paths import ALPHA, C, PathName, make_noise_path
from emu_robot.planner.decoding.plan_decoder import PlanDecoder
from emu_robot.planner.decoding.sampling import SamplingConfig
from emu_robot.shared.draws import draw_seed
from emu_robot.shared.settings import check_ranges, number
from emu_robot.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from emu_robot.tokenizers.interleave import CodedStep, Codes, ImageFormat, ImageSpelling, Interleaver
from emu_robot.tokenizers.object_naming import SeenObject, objects_in
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.tokenizers.vocabulary import Vocabulary

MOST_ANSWER = 96
"""Most ids of words in an answer."""


@dataclass(frozen=True, kw_only=True)
class PlannerSettings:
    """Settings of a planner that may be chosen."""

    camera: str = "front"
    """Camera that the planner sees."""
    max_steps: int = number(4, 1, 1000)
    """Steps of a plan unless asked otherwise."""
    max_words: int = number(24, 1, 2**12)
    """Most word ids of a planned subtask. A training raises it to the longest instruction or subtask of its set."""
    image_stride: int = number(96, 0, 2**20)
    """Number to whose multiples the position ids of image starts are rounded up, so that equal places of two images are
    always equally far apart; 0 rounds nothing."""
    memory: int = number(0, 0, 1000)
    """Past steps of a task that the planner reads, each with the picture it was planned from; 0: the present picture
    alone. Older ones are forgotten."""
    image_guidance: float = number(2.0, 1, 1000)
    """`SamplingConfig.image_guidance` where none is given; 1 is without guidance."""
    image: ImageSpelling = field(default_factory=ImageSpelling)
    """Ids around an image's codes."""
    model: TransformerSizes = field(default_factory=TransformerSizes)
    """Sizes of the transformer."""

    def __post_init__(self) -> None:
        check_ranges(self, "planner")


@dataclass(frozen=True, kw_only=True)
class PlannerConfig(PlannerSettings):
    """A whole planner: its settings, and values that follow from its tokenizers and its training."""

    names: list[str] = field(default_factory=list)
    """Things that the planner learned to name in its images; empty: none."""
    dida_path: str = ""
    """The noise path that stage dida adapted the weights to; empty: none."""
    dida_alpha: float = number(ALPHA, above=0, high=20)
    """How late the metric path prefers near codes."""
    dida_c: float = number(C, above=0, high=1e6)
    """How strongly the metric path prefers near codes."""
    image: ImageFormat = field(default_factory=ImageFormat)
    """Form of an image in a sequence."""
    model: TransformerConfig = field(default_factory=TransformerConfig)
    """The transformer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dida_path and self.dida_path not in set(PathName):
            raise UnknownNameError("dida_path", self.dida_path, [path.value for path in PathName])

    @classmethod
    def of(cls, settings: PlannerSettings, text: TextTokenizer, images: ImageTokenizerConfig) -> "PlannerConfig":
        """The configuration of these settings with these tokenizers."""
        form = ImageFormat(**vars(settings.image), rows=images.grid, columns=images.grid)
        sizes: dict[str, Any] = vars(settings.model) | vocabulary_sizes(text, images)
        model = TransformerConfig(**sizes)
        return cls(**(vars(settings) | {"image": form, "model": model}))


class Planner:
    """Predicts subtasks and subgoal images from the camera image and the instruction.

    One planner serves one thread. The same input and the same seed always give the same plan.
    """

    def __init__(
        self,
        config: PlannerConfig,
        model: CausalTransformer,
        text: TextTokenizer,
        images: ImageTokenizer,
        sampling: SamplingConfig | None = None,
        decoder: DecoderConfig | None = None,
    ) -> None:
        self.config, self.model, self.text, self.images = config, model, text, images
        self.interleaver = interleaver(config, text, images.config)
        self.grammar = PlanGrammar.of(self.interleaver, config.max_words)
        sampling = sampling or SamplingConfig(image_guidance=config.image_guidance)
        books_PSD = images.quantize.books().to(model.lm_head.weight.device)
        path = (
            make_noise_path(config.dida_path, books_PSD, config.dida_alpha, config.dida_c) if config.dida_path else None
        )
        image_decoder = make_image_decoder(decoder or DecoderConfig(), path, books_PSD, sampling)
        self.decoder = PlanDecoder(model, self.grammar, sampling, image_decoder)

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = "mini",
        sampling: SamplingConfig | None = None,
        decoder: DecoderConfig | None = None,
        device: str | torch.device = "cpu",
        int8: bool = False,
    ) -> "Planner":
        """From released weights ("mini") or a weights folder.

        Raises `UnknownNameError` for the name, `WeightsError` naming a missing or damaged file.

        int8: compute in int8 where it is faster, see `models.int8`; such a planner can neither be trained nor saved.
        """
        folder = resolve_weights(name_or_path)
        weights = load_weights(folder, "planner")
        config = weights.settings(PlannerConfig)
        if config.model.tie_word_embeddings:
            tied = weights.state.get("model.embed_tokens.weight", torch.empty(0))
            weights.state["lm_head.weight"] = tied
        model = restore(lambda: CausalTransformer(config.model), weights, "planner")
        model = model.eval().requires_grad_(False).to(device)
        images = ImageTokenizer.load(folder).to(device)
        images = images.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        text = TextTokenizer.load(folder)
        _check_sizes(folder, config, text, images.config)
        planner = cls(config, model, text, images, sampling, decoder)
        if int8 and supported(model.lm_head.weight.device):
            vocabulary = planner.grammar.vocabulary
            to_int8(model, [vocabulary.book_rows(book) for book in range(vocabulary.books)])
            images.freeze()
        return planner

    @property
    def image_size(self) -> int:
        """Side of the square image that it sees [px]."""
        return self.images.config.resolution

    def save(
        self,
        folder: Path,
        extra: dict[str, object] | None = None,
        *,
        half: bool = True,
        state: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Add the planner's own weights to a weights folder that holds both tokenizers; tied ones are stored once.

        half: in float16, as released; a continued training needs full precision. state: the model's state, if gathered
        elsewhere.
        """
        state = dict(self.model.state_dict() if state is None else state)
        if self.config.model.tie_word_embeddings:
            del state["lm_head.weight"]
        save_weights(folder, "planner", state, asdict(self.config), half=half, extra=extra)

    def plan(
        self,
        observation: Observation,
        instruction: str,
        max_steps: int | None = None,
        *,
        seed: int = 0,
        past: Sequence[PastStep] = (),
        doubt: float = 0.0,
    ) -> Plan:
        """The next steps, at most `max_steps`; none if the planner judges the task complete.

        seed: of random draws. past: the steps pursued before, oldest first, of which it reads the last
        `PlannerSettings.memory`. doubt: as much less are the log odds that the task is complete.

        Raises `InvalidValueError` for an empty instruction, `UnknownNameError` for a missing camera, `ShapeError` for
        an image of the wrong size.
        """
        prompt, most = self._asked(observation, instruction, max_steps, past)
        ids, end_odds = self.decoder.plan(prompt, most, seed, doubt)
        return Plan(instruction=instruction, steps=tuple(self._shown(ids)), end_odds=end_odds)

    def stream(
        self,
        observation: Observation,
        instruction: str,
        max_steps: int | None = None,
        *,
        seed: int = 0,
        past: Sequence[PastStep] = (),
    ) -> Iterator[PlanStep]:
        """The steps of `plan`, each as soon as it is decoded. Input is checked at the call, not at the first step."""
        prompt, most = self._asked(observation, instruction, max_steps, past)
        return (step for ids in self.decoder.stream(prompt, most, seed) for step in self._shown(ids))

    def prompt(self, image: Image, instruction: str) -> list[int]:
        """Ids of an instruction and the current image (H, W, 3) uint8."""
        return self._prompt(instruction, self._codes(image))

    def answer(self, observation: Observation, question: str) -> str:
        """A planner that learned from questions says what it sees, for instance to "what is on the table?"."""
        if not question.strip():
            raise InvalidValueError(f"question is {question!r}, must ask something")
        prompt = self.interleaver.question(question, [self._codes(self._camera_image(observation))])
        return self.text.decode(self.decoder.answer(prompt, MOST_ANSWER))

    @torch.inference_mode()
    def seen_objects(self, codes_Bn: Codes) -> list[list[SeenObject]]:
        """What a planner that learned names sees in images (B, n) of codes; the place of each is that of a cell."""
        if not self.config.names:
            raise InvalidValueError("this planner did not learn to name things (sequences.naming_weight)")
        form, device = self.interleaver, self.model.lm_head.weight.device
        rows = [[form.vocabulary.bos, *form.image_ids(codes)] for codes in codes_Bn]
        positions = torch.tensor([form.positions(row) for row in rows], device=device)
        states: list[torch.Tensor] = []
        self.model.model(torch.tensor(rows, device=device), positions, states=states)
        asked = 2 + torch.from_numpy(form.naming_places())
        probability_BnK = self.model.naming(states[self.model.halfway][:, asked.to(device)]).float().sigmoid()
        probability_BKhw = probability_BnK.mT.unflatten(2, (form.image.rows, form.image.columns)).cpu()
        return objects_in(self.config.names, probability_BKhw, torch.zeros_like(probability_BKhw[:, :2]))

    def next_steps(
        self, images: Sequence[Image], instructions: Sequence[str], seeds: Sequence[int]
    ) -> list[PlanStep | None]:
        """The next step of many plans at once, from images (H, W, 3) uint8; None where the task is held complete."""
        prompts = [self.prompt(image, words) for image, words in zip(images, instructions, strict=True)]
        return [
            step and PlanStep(subtask=step[0], subgoal=self.images.decode_images(step[1][None])[0])
            for step in self.first_steps(prompts, seeds)
        ]

    def first_steps(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int]) -> list[tuple[str, Codes] | None]:
        """The next subtask and its image codes (n,) for many prompts at once; None where the task is held complete."""
        produced = (self.interleaver.decode(ids)[0] for ids in self.decoder.generate(prompts, 1, seeds))
        return [(steps[0].subtask, steps[0].codes) if steps else None for steps in produced]

    def draw(self, prompts: Sequence[Sequence[int]], subtasks: Sequence[str], seeds: Sequence[int]) -> Codes:
        """The image codes (B, n) of given next subtasks, for many prompts at once."""
        vocabulary = self.interleaver.vocabulary
        sequences = [
            [*prompt, vocabulary.bos_step, *self.text.encode(subtask), vocabulary.boi]
            for prompt, subtask in zip(prompts, subtasks, strict=True)
        ]
        drawn = np.array(self.decoder.draw(sequences, seeds))
        inside = [i for i, token in enumerate(self.interleaver.template) if token is None]
        return (drawn[:, inside] - vocabulary.first_code).astype(np.uint32)

    def imagine(self, observation: Observation, subtasks: Sequence[str], *, seed: int = 0) -> Iterator[Image]:
        """The camera's predicted images (H, W, 3) uint8 after each of these subtasks in turn.

        Every image follows from the codes of the one before, which are not decoded and encoded in between.
        """
        codes = self._codes(self._camera_image(observation))
        for depth, subtask in enumerate(subtasks):
            (codes,) = self.draw([self._prompt(subtask, codes)], [subtask], [draw_seed("imagine", seed, depth)])
            yield self.images.decode_images(codes[None])[0]

    def draw_subgoal(self, observation: Observation, subtask: str, *, seed: int) -> Image:
        """The camera's predicted image (H, W, 3) uint8 after a subtask in any words."""
        return next(self.imagine(observation, [subtask], seed=seed))

    def _asked(
        self, observation: Observation, instruction: str, max_steps: int | None, past: Sequence[PastStep]
    ) -> tuple[list[int], int]:
        """The ids of a question, and the most steps of its answer."""
        read = past[max(len(past) - self.config.memory, 0) :]
        *before, now = (self._codes(self._camera_image(seen)) for seen in (*(p.observation for p in read), observation))
        steps_before = [CodedStep(step.subtask, codes) for step, codes in zip(read, before, strict=True)]
        prompt = self._prompt(instruction, now, steps_before)
        most = self.config.max_steps if max_steps is None else max_steps
        if most < 1:
            raise InvalidValueError(f"max_steps is {most}, must be at least 1")
        return prompt, most

    def _shown(self, ids: Sequence[int]) -> Iterator[PlanStep]:
        """The steps in new ids, with their images."""
        for step in self.interleaver.decode(ids)[0]:
            yield PlanStep(subtask=step.subtask, subgoal=self.images.decode_images(step.codes[None])[0])

    def _prompt(self, instruction: str, codes: Codes, past: Sequence[CodedStep] = ()) -> list[int]:
        if not instruction.strip():
            raise InvalidValueError(f"instruction is {instruction!r}, must say what to do")
        return self.interleaver.prompt(instruction, codes, past)

    def _codes(self, image: Image) -> Codes:
        check_image(f"image of camera {self.config.camera!r}", image, (self.image_size, self.image_size))
        return self.images.encode_images(image[None])[0]

    def _camera_image(self, observation: Observation) -> Image:
        if self.config.camera not in observation.images:
            raise UnknownNameError("camera of the observation", self.config.camera, observation.images)
        return observation.images[self.config.camera]


def _check_sizes(folder: Path, config: PlannerConfig, text: TextTokenizer, images: ImageTokenizerConfig) -> None:
    """Raise `WeightsError` unless the planner's ids and images are those of its tokenizers."""
    known = vocabulary_of(text, images).rows
    if config.model.vocab_size != known:
        raise WeightsError(f"{folder}: the planner has {config.model.vocab_size} ids, its tokenizers make {known}")
    if (books := config.model.code_books) != images.code_books:
        raise WeightsError(f"{folder}: the planner has {books} code books, its image tokenizer {images.code_books}")
    if (named := config.model.n_names) != len(config.names):
        raise WeightsError(f"{folder}: the planner tells {named} names, its manifest lists {len(config.names)}")
    if (rows := config.image.rows, columns := config.image.columns) != (images.grid, images.grid):
        grid = f"{images.grid} x {images.grid}"
        raise WeightsError(f"{folder}: the planner's images are {rows} x {columns} codes, its tokenizer's {grid}")


def vocabulary_of(text: TextTokenizer, images: ImageTokenizerConfig) -> Vocabulary:
    """The ids of a planner with these tokenizers."""
    return Vocabulary(text_size=text.size, book_size=images.book_size, books=images.code_books)


def vocabulary_sizes(text: TextTokenizer, images: ImageTokenizerConfig) -> dict[str, int]:
    """What a model has to know of them, as in `TransformerConfig`."""
    vocabulary = vocabulary_of(text, images)
    return {"vocab_size": vocabulary.rows, "code_books": vocabulary.books, "book_size": vocabulary.book_size}


def interleaver(config: PlannerConfig, text: TextTokenizer, images: ImageTokenizerConfig) -> Interleaver:
    """The sequence format of a planner with these tokenizers."""
    return Interleaver(text, vocabulary_of(text, images), config.image, config.image_stride)
