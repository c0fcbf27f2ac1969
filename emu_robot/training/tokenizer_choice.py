"""The image tokenizer of a fine-tuning: that of the start weights where it can show the set, else one trained on it."""

from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from emu_robot.data.mapped_images import MappedImages
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.evaluation.reconstructions import Kept, draw_reconstructions, kept
from emu_robot.evaluation.records import read_json
from emu_robot.models.weights import copy_weights, resolve_weights, save_weights, stage_hash
from emu_robot.planner.planner import Planner
from emu_robot.shared.files import check_settings, replace_json, settings_of
from emu_robot.shared.settings import number
from emu_robot.tokenizers.image import ImageTokenizer
from emu_robot.training.holdout import completed_subtasks, held_out_episodes, spread
from emu_robot.training.loop import check_loop, select_device
from emu_robot.training.planner import start_from_books
from emu_robot.training.tokenizer import TokenizerTraining, fit_tokenizer, initialize_codebook, keyframe_rows

RECORD, PICTURE, START = "tokenizer.json", "reconstructions.png", "start"
TRIES = ("ours", "new")
"""Ways to begin a training: from the start weights' tokenizer, from nothing."""
_OF_THE_RUN = ("data", "out", "start", "loop")
"""Settings that the record does not compare: places, and those that `check_loop` compares."""

type Ints = NDArray[np.int64]


class TokenizerMode(StrEnum):
    """Ways to come to an image tokenizer."""

    auto = "auto"
    """Train one on the set if the start weights' one is below the bar."""
    keep = "keep"
    """Keep that of the start weights."""
    train = "train"
    """Train one on the set."""


@dataclass(frozen=True, kw_only=True)
class TokenizerChoice(TokenizerTraining):
    """Settings of the choice between the start weights' image tokenizer and one trained on the set.

    The bar is `least_psnr` and `least_change`, on held-out episodes. Below it two trainings of `try_steps` begin, one
    from the start weights' tokenizer and one from nothing. The better one goes on to `loop.steps`. The better tokenizer
    keeps more of a change; where no picture changes, the higher median PSNR decides.
    """

    mode: TokenizerMode = TokenizerMode.auto
    """auto (train below the bar) | keep (the start weights' tokenizer) | train."""
    least_psnr: float = number(20.0, 0)
    """Least median PSNR of the reconstructions [dB]."""
    least_change: float = number(0.6, high=1)
    """Least share of a change between a subtask's first picture and its keyframe that reconstructions must keep."""
    try_steps: int = number(150, 1)
    """Steps of each of the two short trainings; loop.steps if that is less."""
    holdout: float = number(0.1, above=0, below=1)
    """Share of the episodes that the training leaves out and on which tokenizers are measured."""
    measured: int = number(200, 1)
    """Most pictures and most changes that a measurement takes."""

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        bar = ("least_psnr", "least_change")
        if self.mode is TokenizerMode.keep:
            training = (setting.name for setting in fields(TokenizerTraining))
            return dict.fromkeys((*bar, "try_steps", *training), "mode=keep trains nothing")
        idle = dict.fromkeys(bar, "mode=train trains in any case") if self.mode is TokenizerMode.train else {}
        return super().without_effect() | idle

    def verdict(self, before: Kept) -> tuple[bool, str]:
        """Whether to train, and why."""
        if self.mode is not TokenizerMode.auto:
            return self.mode is TokenizerMode.train, f"tokenizer.mode={self.mode}"
        low = self.shortcomings(before)
        return bool(low), " and ".join(low) or "its reconstructions reach the bar"

    def shortcomings(self, found: Kept) -> list[str]:
        """What is below the bar, in words."""
        low = []
        if found.median_db < self.least_psnr:
            low.append(f"a median PSNR of {found.median_db:.1f} dB is below tokenizer.least_psnr={self.least_psnr:g}")
        if found.change is not None and found.change < self.least_change:
            low.append(f"{found.change:.2f} of a change kept is below tokenizer.least_change={self.least_change:g}")
        return low


@dataclass(frozen=True, kw_only=True)
class TokenizerChoiceConfig(TokenizerChoice):
    """Settings of one choice."""

    data: Path = Path("outputs/finetune/data")
    """Prepared set."""
    out: Path = Path("outputs/finetune")
    """Folder that gets tokenizer.json, reconstructions.png, run/tokenizer_ours, run/tokenizer_new and `start`, the
    weights that planner and head start from."""
    camera: str = "front"
    """The planner's camera."""
    start: str = "mini"
    """Released name or weights folder to start from."""


class Scene(NamedTuple):
    """The set's pictures of one camera, by row."""

    images: MappedImages
    """All pictures."""
    learned: Ints
    """Rows to learn from."""
    keyframes: Ints
    """Starts and keyframes among them; all of them if there is none."""
    rows: Ints
    """Rows to measure."""
    pairs: Ints
    """(P, 2) the first picture of a subtask and its keyframe, to measure."""

    def measure(self, name: str, tokenizer: ImageTokenizer) -> Kept:
        """Measure a tokenizer, and print it under this name."""
        found = kept(tokenizer, self.images, self.rows, self.pairs)
        print(f"{name}: {found}", flush=True)
        return found


def check_choice(config: TokenizerChoiceConfig) -> None:
    """Check the settings before anything is written.

    Raises `ConfigError` if `out` holds a choice made with other settings or other weights; the errors of `check_loop`.
    """
    for name in TRIES:
        check_loop(config.loop, config.out / "run" / f"tokenizer_{name}")
    if (config.out / RECORD).exists():
        before = read_json(config.out / RECORD)["settings"]
        check_settings(f"{config.out}: the image tokenizer was chosen", _settings(config), before)


def choose_tokenizer(config: TokenizerChoiceConfig) -> Path:
    """Choose, and train if needed. Returns the folder of the weights that planner and head start from.

    With a new tokenizer, the planner there reads and writes its codes by embeddings that start from its codebook.
    A choice is made once: what tokenizer.json in `config.out` says is not measured again after a restart.
    """
    check_choice(config)
    record, scene = _Record(config), scene_of(ReplayBuffer.open(config.data), config)
    begin, start, device = resolve_weights(config.start), config.out / START, select_device(config.loop.device)
    ours = ImageTokenizer.load(begin).to(device)
    if "trains" not in record.content:
        before = scene.measure("the start weights' tokenizer", ours)
        trains, why = config.verdict(before)
        record.add(camera=config.camera, before=asdict(before), trains=trains, why=why)
    trains, why = record.content["trains"], record.content["why"]
    print(f"the image tokenizer is {'trained on the set' if trains else 'kept'}: {why}", flush=True)
    copy_weights(begin, start)
    trained, shown = _train(config, scene, record) if trains else None, [ours]
    if trained is not None:
        start_with(start, trained)
        shown.append(trained.to(device))
    draw_reconstructions(config.out / PICTURE, scene.images, scene.rows, scene.pairs, shown)
    print(f"look at {config.out / PICTURE}")
    return start


class _Record:
    """What tokenizer.json says."""

    def __init__(self, config: TokenizerChoiceConfig) -> None:
        self._path = config.out / RECORD
        self.content: dict[str, Any] = {"settings": _settings(config)}
        if self._path.exists():
            self.content = read_json(self._path)

    def add(self, **found: Any) -> None:
        self.content |= found
        replace_json(self._path, self.content)


def _train(config: TokenizerChoiceConfig, scene: Scene, record: _Record) -> ImageTokenizer | None:
    """The tokenizer trained on the set, in half precision as it is saved; None if it is no better than the first one.

    The better one of two short trainings goes on; which one it is, is recorded.
    """
    device = select_device(config.loop.device)
    if "winner" not in record.content:
        steps = min(config.try_steps, config.loop.steps)
        short = replace(config, loop=replace(config.loop, steps=steps))
        tried = {name: scene.measure(f"{name}, {steps} steps", _fit(name, short, scene).to(device)) for name in TRIES}
        winner = max(TRIES, key=lambda name: _rank(tried[name]))
        record.add(tried={name: asdict(one) for name, one in tried.items()}, tried_steps=steps, winner=winner)
    trained = _fit(record.content["winner"], config, scene).half().float()
    after = scene.measure("the trained tokenizer", trained.to(device))
    better = config.mode is TokenizerMode.train or _rank(after) > _rank(Kept(**record.content["before"]))
    record.add(after=asdict(after), better=better)
    if not better:
        print("the start weights' tokenizer is kept: the trained one is no better", flush=True)
    return trained.cpu() if better else None


def scene_of(buffer: ReplayBuffer, config: TokenizerChoiceConfig) -> Scene:
    """The pictures to learn from and, of held-out episodes, those to measure, see `held_out_episodes`."""
    images = buffer.images(config.camera)
    held_E = held_out_episodes(completed_subtasks(buffer.metadata), config.holdout)
    episode_M = np.searchsorted(buffer.image_ends, np.arange(len(images)), side="right")
    learned, seen = (np.flatnonzero(chosen[episode_M]) for chosen in (~held_E, held_E))
    keyframes = np.intersect1d(keyframe_rows(buffer), learned)
    frame_M, begin_E = buffer.load("images/frame").astype(np.int64), np.r_[0, buffer.episode_ends[:-1]]
    marks = [
        (begin_E[e] + start, begin_E[e] + keyframe)
        for e in np.flatnonzero(held_E)
        for start, keyframe in zip(buffer.metadata[e]["starts"], buffer.metadata[e]["keyframes"], strict=False)
    ]
    pairs = np.searchsorted(frame_M, np.array(marks, np.int64).reshape(-1, 2))
    return Scene(
        images=images,
        learned=learned,
        keyframes=keyframes if len(keyframes) else learned,
        rows=spread(seen, config.measured),
        pairs=spread(pairs, config.measured),
    )


def _settings(config: TokenizerChoiceConfig) -> dict[str, Any]:
    """All that the choice depends on, as JSON values."""
    folder = resolve_weights(config.start)
    hashes = {f"start {stage}": stage_hash(folder, stage) for stage in ("tokenizer", "planner", "head")}
    return settings_of(config, _OF_THE_RUN) | {"loop.steps": config.loop.steps} | hashes


def _fit(name: str, config: TokenizerChoiceConfig, scene: Scene) -> ImageTokenizer:
    """Train for `config.loop.steps`, from where an earlier training of this name ended."""
    torch.manual_seed(config.loop.seed)
    model = ImageTokenizer.load(resolve_weights(config.start)).requires_grad_(True)
    if name == "new":
        model = ImageTokenizer(model.config).to(select_device(config.loop.device))
        initialize_codebook(model, scene.images, scene.learned, config)
    run = config.out / "run"
    return fit_tokenizer(model, scene.images, scene.learned, scene.keyframes, config, run, f"tokenizer_{name}")


def _rank(found: Kept) -> tuple[float, float]:
    """Sorts tokenizers measured on the same pictures, the better one last."""
    return (0.0 if found.change is None else found.change, found.median_db)


@torch.no_grad()
def start_with(folder: Path, images: ImageTokenizer) -> None:
    """Replace the image tokenizer of a weights folder, and let the planner there begin with the codes of the new one.

    The embeddings of the codes and their rows of the output start from its codebook; all else stays.
    """
    planner = Planner.load(folder)
    model = planner.model
    first_code = planner.interleaver.vocabulary.first_code
    embedded, output = model.model.embed_tokens.weight, model.lm_head.weight
    scales = [float(rows[first_code:].std()) for rows in (embedded, output)]
    start_from_books(model, images.quantize.books().cpu(), scales[0])
    if not planner.config.model.tie_word_embeddings:
        output[first_code:] = embedded[first_code:] * scales[1] / scales[0]
    save_weights(folder, "tokenizer", images.state_dict(), images.config, half=True)
    planner.save(folder)
