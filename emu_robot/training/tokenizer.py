"""Stage tokenizer: learns words and image codes from a replay buffer. `encode` adds the codes to a buffer."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emu_robot.data.episode import read_facts
from emu_robot.data.mapped_images import ImageSource
from emu_robot.data.questions import questions
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError, ShapeError
from emu_robot.models.weights import resolve_weights, save_weights, stage_hash
from emu_robot.shared.settings import check_ranges, number
from emu_robot.tokenizers.image import EncoderKind, ImageTokenizer, ImageTokenizerConfig, ImageTokenizerSizes, to_pixels
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.training.clusters import ClusterConfig, cells_of, clustered
from emu_robot.training.loop import LoopConfig, LossFn, check_loop, fit, select_device, step_rng
from emu_robot.training.losses import codebook_usage, importance_BHW, reconstruction_loss
from emu_robot.training.naming import SeenThings, naming_loss

ASKED_EPISODES = 2000
"""Episodes whose pictures are asked about in the sentences of the text tokenizer."""


OF_NAMING = ("keyframe_share", "naming_weight", "loop")
"""Settings of the naming of objects from finished codes."""


def _loop() -> LoopConfig:
    return LoopConfig(
        steps=4000,
        batch_size=32,
        lr=1e-3,
        beta1=0.5,
        beta2=0.95,
        warmup_steps=100,
        weight_decay=1e-4,
        ema_decay=0.998,
        threads=1,
        compile=True,
        channels_last=True,
    )


@dataclass(frozen=True, kw_only=True)
class TokenizerTraining:
    """Settings of the training of an image tokenizer, independent of the data.

    Over the first half of the steps, idle codes are moved to where the codebook fits badly; otherwise three quarters of
    them are never used.
    """

    keyframe_share: float = number(0.3, 0, 1)
    """Share of a batch from starts and keyframes."""
    foreground: float = number(4.0, 0)
    """Extra weight of pixels that differ from the background, see `importance_BHW`."""
    colour: float = number(16.0, 0)
    """Extra weight of colourful pixels, see `importance_BHW`."""
    quantizer_weight: float = number(0.25, 0)
    """Weight of the quantiser's loss; the reconstruction has weight 1."""
    entropy_weight: float = number(0.01, 0)
    """Weight of the entropy loss, which spreads the codes."""
    naming_weight: float = number(0.3, 0)
    """Weight of the loss of naming objects from the codes, for images whose facts the set tells; the reconstruction
    has weight 1. 0: the tokenizer names nothing."""
    initial_images: int = number(256, 1)
    """Number of images that initialise the codebook of an untrained tokenizer."""
    revive_every: int = number(50, 1)
    """Steps between two revivals of idle codes."""
    revive_images: int = number(256, 1)
    """Number of images on which a code must be idle to be revived."""
    loop: LoopConfig = field(default_factory=_loop)
    """Optimisation."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        return {"loop.eval_every": "stage tokenizer evaluates nothing"}


@dataclass(frozen=True, kw_only=True)
class TokenizerTrainConfig(TokenizerTraining):
    """Settings of stage tokenizer. The size of the images follows from the data."""

    data: Path = Path("outputs/data/train")
    """Replay buffer to learn from."""
    out: Path = Path("outputs/train")
    """Run folder: checkpoints and metrics, in its folder `tokenizer`."""
    weights: Path = Path("outputs/weights/mini")
    """Folder that receives the image tokenizer and text.json."""
    camera: str = "front"
    """Camera of the images to learn from."""
    text_vocabulary: int = number(1024, 1)
    """Largest number of ids of the text tokenizer."""
    model: ImageTokenizerSizes = field(default_factory=ImageTokenizerSizes)
    """Sizes of the image tokenizer."""
    clusters: ClusterConfig = field(default_factory=ClusterConfig)
    """How the codes are found with `model.encoder=patches`. The steps of `loop` then train the naming of objects alone,
    where the set tells what is seen."""

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        if self.model.encoder is not EncoderKind.patches:
            return super().without_effect() | {"clusters": f"model.encoder={self.model.encoder}"}
        idle = (one.name for one in fields(TokenizerTraining) if one.name not in OF_NAMING)
        return super().without_effect() | dict.fromkeys(idle, "clusters are not trained by steps")


def train(config: TokenizerTrainConfig) -> Path:
    """Run the stage, or resume an interrupted run. Returns the weights folder with text.json and the tokenizer."""
    check_loop(config.loop, config.out / "tokenizer")
    torch.manual_seed(config.loop.seed)
    buffer = ReplayBuffer.open(config.data)
    images = buffer.images(config.camera)
    text = train_text(buffer, config.text_vocabulary)
    things = SeenThings.load(buffer, config.camera) if config.naming_weight else None
    shape = tokenizer_config(config.model, images, things.names if things else [])
    make = _clustered if config.model.encoder is EncoderKind.patches else _trained
    tokenizer = make(config, shape, buffer, images, things)
    text.save(config.weights)
    save_weights(config.weights, "tokenizer", tokenizer.state_dict(), tokenizer.config, half=True)
    return config.weights


def _clustered(
    config: TokenizerTrainConfig,
    shape: ImageTokenizerConfig,
    buffer: ReplayBuffer,
    images: ImageSource,
    things: SeenThings | None,
) -> ImageTokenizer:
    """A tokenizer of clusters, with a network trained to name objects from its codes if the set tells what is seen."""
    rows = np.arange(len(images))
    scene = background(images, rows)
    cells = cells_of(images, rows, scene, shape.downscale, config.clusters)
    tokenizer = clustered(shape, cells, scene, config.clusters)
    return fit_naming(tokenizer, images, keyframe_rows(buffer), config, things) if things else tokenizer


def fit_naming(
    tokenizer: ImageTokenizer,
    images: ImageSource,
    keyframes: NDArray[np.int64],
    config: TokenizerTrainConfig,
    things: SeenThings,
) -> ImageTokenizer:
    """Train the naming of objects alone; the codes stay. keyframes: rows of starts and keyframes."""
    tokenizer.requires_grad_(False)
    assert tokenizer.naming is not None
    tokenizer.naming.requires_grad_(True)
    batch_fn = batches(images, keyframes, config, tokenizer.config.grid, things, revives=False)

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float | Tensor]]:
        assert isinstance(model, ImageTokenizer) and model.naming is not None
        features = model.quantize.decode(model.encode(to_pixels(batch["images"])))
        return naming_loss(model.naming(features), batch["kinds"], batch["offsets"]), {}

    named = fit(tokenizer, batch_fn, loss, config.loop, config.out, "tokenizer", settings=config)
    assert isinstance(named, ImageTokenizer)
    return named.eval().requires_grad_(False)


def _trained(
    config: TokenizerTrainConfig,
    shape: ImageTokenizerConfig,
    buffer: ReplayBuffer,
    images: ImageSource,
    things: SeenThings | None,
) -> ImageTokenizer:
    """A trained network."""
    model = ImageTokenizer(shape).to(select_device(config.loop.device))
    initialize_codebook(model, images, config)
    batch_fn = batches(images, keyframe_rows(buffer), config, model.config.grid, things)
    loss_fn = tokenizer_loss(background(images, np.arange(len(images))), config)
    tokenizer = fit(model, batch_fn, loss_fn, config.loop, config.out, "tokenizer", settings=config)
    assert isinstance(tokenizer, ImageTokenizer)
    return tokenizer


def tokenizer_config(
    sizes: ImageTokenizerSizes, images: ImageSource, names: Sequence[str] = ()
) -> ImageTokenizerConfig:
    """A tokenizer of these sizes for images (M, H, W, 3). names: objects that it learns to name.

    Raises `ShapeError` unless the images are square.
    """
    height, width = images.shape[1:3]
    if height != width:
        raise ShapeError("images", f"{height} x {width}", "as many rows as columns")
    return ImageTokenizerConfig(**vars(sizes), resolution=height, names=list(names))


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """Settings of the encoding of a replay buffer for a planner."""

    buffer: Path = Path("outputs/data/train")
    """Replay buffer that receives codes_<camera> for every stored image."""
    weights: str = "mini"
    """Released name or weights folder with the image tokenizer."""
    camera: str = "front"
    """Camera of the images to encode."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:N."""


def encode(config: EncodeConfig) -> Path:
    """Write the missing codes, by the saved half-precision weights. Returns the buffer's path."""
    folder = resolve_weights(config.weights)
    tokenizer = ImageTokenizer.load(folder).to(select_device(config.device))
    tokenizer = tokenizer.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    with closing(ReplayBuffer.open(config.buffer)) as buffer:
        buffer.encode(config.camera, tokenizer.encode_images, stage_hash(folder, "tokenizer"))
    return config.buffer


def train_text(buffer: ReplayBuffer, vocab_size: int) -> TextTokenizer:
    """A text tokenizer of all instructions and subtasks in the buffer, and of questions about some of its pictures."""
    sentences = [text for meta in buffer.metadata for text in (meta["instruction"], *meta["subtasks"])]
    for meta in buffer.metadata[:ASKED_EPISODES]:
        sentences += [
            text for facts in read_facts(meta.get("facts", "[]")) for pair in questions(facts) for text in pair
        ]
    return TextTokenizer.train(sentences, vocab_size)


def keyframe_rows(buffer: ReplayBuffer) -> NDArray[np.int64]:
    """Image rows of all starts and keyframes. Raises `DataError` if there are none."""
    frames, begin = buffer.load("images/frame").astype(np.int64), 0
    marked = []
    for meta, end in zip(buffer.metadata, buffer.episode_ends.tolist(), strict=True):
        marked += [begin + frame for frame in (*meta["starts"], *meta["keyframes"])]
        begin = end
    if not marked:
        raise DataError(f"{buffer.path}: no keyframes in {buffer.n_episodes} episodes")
    return np.searchsorted(frames, np.unique(marked))


def background(images: ImageSource, rows: NDArray[np.int64], count: int = 301) -> Tensor:
    """(3, H, W) in [-1, 1]: the median of images spread over these rows, the background of a fixed camera."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
    median = np.median(images[chosen], axis=0).astype(np.uint8)
    return to_pixels(torch.from_numpy(median)[None])[0]


def batches(
    images: ImageSource,
    keyframes: NDArray[np.int64],
    config: TokenizerTraining,
    grid: int = 0,
    things: SeenThings | None = None,
    revives: bool = True,
) -> Callable[[int], dict[str, Tensor]]:
    """step -> {"images": (B, H, W, 3) uint8}, with further images "revival" at steps that revive idle codes.

    With `things`, also the targets of the naming on a grid of codes.
    """

    def draw(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        marked = round(count * config.keyframe_share)
        chosen = rng.choice(keyframes, marked)
        return np.concatenate([chosen, rng.integers(len(images), size=count - marked)])

    def batch(step: int) -> dict[str, Tensor]:
        rng = step_rng(config.loop.seed, step)
        chosen = draw(rng, config.loop.batch_size)
        drawn = {"images": torch.from_numpy(images[chosen])}
        if things is not None:
            drawn |= things.targets(chosen, grid)
        if revives and step % config.revive_every == config.revive_every - 1 and step < config.loop.steps // 2:
            drawn["revival"] = torch.from_numpy(images[draw(rng, config.revive_images)])
        return drawn

    return batch


@torch.no_grad()
def initialize_codebook(model: ImageTokenizer, images: ImageSource, config: TokenizerTraining) -> None:
    """Start the codebook from the untrained encoder's outputs on real images."""
    chosen = step_rng(config.loop.seed, 0, stream=2).integers(len(images), size=config.initial_images)
    device = model.quant_conv.weight.device
    model.trained_books.initialize(model.features(to_pixels(torch.from_numpy(images[chosen]).to(device))))


def tokenizer_loss(background_3HW: Tensor, config: TokenizerTraining) -> LossFn:
    """The stage's loss function for `fit`."""

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float | Tensor]]:
        assert isinstance(model, ImageTokenizer)
        if "revival" in batch:
            with torch.no_grad():
                model.trained_books.revive(model.features(to_pixels(batch["revival"])))
        images = to_pixels(batch["images"])
        weight = importance_BHW(images, background_3HW.to(images.device), config.foreground, config.colour)
        output, quantized = model(images)
        output = output.float()
        error = reconstruction_loss(output, images, weight)
        total = error + config.quantizer_weight * quantized.loss + config.entropy_weight * quantized.entropy_loss
        metrics: dict[str, float | Tensor] = {
            "reconstruction": error.detach(),
            "psnr": -10 * ((output - images).detach().square().mean() / 4).log10(),
            "quantizer": quantized.loss.detach(),
            "codes_used": codebook_usage(quantized.codes, model.config.n_embed),
        }
        if "kinds" in batch and model.naming is not None:
            naming = naming_loss(model.naming(quantized.z_q), batch["kinds"], batch["offsets"])
            total, metrics["naming"] = total + config.naming_weight * naming, naming.detach()
        return total, metrics

    return loss
