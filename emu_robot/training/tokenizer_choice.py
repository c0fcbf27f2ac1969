"""The image tokenizer of a fine-tuning: that of the start weights where it can show the set, else clusters of the set's
cells."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from emu_robot.data.mapped_images import MappedImages
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError
from emu_robot.evaluation.reconstructions import Kept, draw_reconstructions, kept
from emu_robot.evaluation.records import read_json
from emu_robot.models.weights import copy_weights, resolve_weights, save_weights, stage_hash
from emu_robot.planner.planner import Planner
from emu_robot.shared.files import check_settings, replace_json, settings_of
from emu_robot.shared.settings import check_ranges, number
from emu_robot.tokenizers.image import EncoderKind, ImageTokenizer, ImageTokenizerConfig
from emu_robot.training.clusters import ClusterConfig, cells_of, clustered, few_cells_fit
from emu_robot.training.holdout import completed_subtasks, held_out_episodes, spread
from emu_robot.training.loop import select_device
from emu_robot.training.new_tokenizers import with_tokenizers
from emu_robot.training.tokenizer import background

RECORD, PICTURE, START, CLUSTERS = "tokenizer.json", "reconstructions.png", "start", "run/clusters"
CODE_BOOKS, COMPONENTS = 2, 160
"""Books and components of a tokenizer of clusters."""
_OF_THE_RUN = ("data", "out", "start", "device")
"""Settings that the record does not compare."""

type Ints = NDArray[np.int64]


class TokenizerMode(StrEnum):
    """Ways to come to an image tokenizer."""

    auto = "auto"
    """Make one of clusters if the start weights' one is below the bar; the better one counts."""
    keep = "keep"
    """Keep that of the start weights."""
    clusters = "clusters"
    """Make one of clusters."""


@dataclass(frozen=True, kw_only=True)
class TokenizerChoice:
    """Settings of the choice between the start weights' image tokenizer and one of clusters of the set's cells.

    The bar is `least_psnr` and `least_change`, on held-out episodes. The better tokenizer keeps more of a change; where
    no picture changes, the higher median PSNR decides.
    """

    mode: TokenizerMode = TokenizerMode.auto
    """auto (clusters where the start weights' tokenizer is below the bar) | keep (that one) | clusters."""
    least_psnr: float = number(20.0, 0)
    """Least median PSNR of the reconstructions [dB]."""
    least_change: float = number(0.6, high=1)
    """Least share of a change between a subtask's first picture and its keyframe that reconstructions must keep."""
    holdout: float = number(0.1, above=0, below=1)
    """Share of the episodes from which no cell is taken and on which tokenizers are measured."""
    measured: int = number(200, 1)
    """Most pictures and most changes that a measurement takes."""
    clusters: ClusterConfig = field(default_factory=lambda: ClusterConfig(colour=1, plain_share=1))
    """How clusters are found. All that moves counts alike here, since what matters in a foreign set is not known."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:N: where tokenizers are measured. Clusters need no GPU."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        if self.mode is TokenizerMode.auto:
            return {}
        idle = dict.fromkeys(("least_psnr", "least_change"), f"mode={self.mode} asks for no bar")
        return idle | ({"clusters": "mode=keep makes none"} if self.mode is TokenizerMode.keep else {})

    def verdict(self, before: Kept) -> tuple[bool, str]:
        """Whether to make clusters, and why."""
        if self.mode is not TokenizerMode.auto:
            return self.mode is TokenizerMode.clusters, f"tokenizer.mode={self.mode}"
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
    """Folder that gets tokenizer.json, reconstructions.png, run/clusters (the new tokenizer) and `start`, the weights
    that planner and head start from."""
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

    Raises `ConfigError` if `out` holds a choice made with other settings or other weights; the errors of
    `select_device`.
    """
    select_device(config.device)
    if (config.out / RECORD).exists():
        before = read_json(config.out / RECORD)["settings"]
        check_settings(f"{config.out}: the image tokenizer was chosen", _settings(config), before)


def choose_tokenizer(config: TokenizerChoiceConfig) -> Path:
    """Choose, and make clusters if needed. Returns the folder of the weights that planner and head start from.

    With a new tokenizer, the planner there reads and writes its codes, see `with_tokenizers`. A choice is made once:
    what tokenizer.json in `config.out` says is not measured again after a restart. Raises `DataError` with
    mode=clusters if too little moves for clusters.
    """
    check_choice(config)
    record, scene = _Record(config), scene_of(ReplayBuffer.open(config.data), config)
    begin, start, device = resolve_weights(config.start), config.out / START, select_device(config.device)
    ours = ImageTokenizer.load(begin)
    if "clusters" not in record.content:
        before = scene.measure("the start weights' tokenizer", ours.to(device))
        clusters, why = config.verdict(before)
        record.add(camera=config.camera, before=asdict(before), clusters=clusters, why=why)
    clusters, why = record.content["clusters"], record.content["why"]
    print(f"the image tokenizer is {'made of clusters' if clusters else 'kept'}: {why}", flush=True)
    copy_weights(begin, start)
    made = _clusters(config, ours.config, scene, record) if clusters else None
    if made is not None:
        start_with(start, made, scene.images)
    shown = [one.to(device) for one in (ours, made) if one is not None]
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


def _clusters(
    config: TokenizerChoiceConfig, like: ImageTokenizerConfig, scene: Scene, record: _Record
) -> ImageTokenizer | None:
    """The tokenizer of clusters, as it is saved; None if it is no better than the first one."""
    if "better" not in record.content:
        made = _made(config, like, scene, record)
        if made is None:
            record.add(better=False)
        else:
            after = scene.measure("clusters", made.to(select_device(config.device)))
            better = config.mode is TokenizerMode.clusters or _rank(after) > _rank(Kept(**record.content["before"]))
            record.add(after=asdict(after), codes=made.config.n_codes, books=made.config.n_embed, better=better)
    if record.content["better"]:
        return ImageTokenizer.load(config.out / CLUSTERS)
    print("the start weights' tokenizer is kept: clusters are no better", flush=True)
    return None


def _made(
    config: TokenizerChoiceConfig, like: ImageTokenizerConfig, scene: Scene, record: _Record
) -> ImageTokenizer | None:
    """The tokenizer of clusters, in half precision as it is saved; None, in mode=auto, if too little moves for it."""
    folder, still = config.out / CLUSTERS, background(scene.images, scene.learned)
    cells = cells_of(scene.images, scene.learned, still, like.downscale, config.clusters)
    record.add(cells=len(cells))
    try:
        sizes = few_cells_fit(cluster_sizes(like), len(cells))
    except DataError as error:
        if config.mode is TokenizerMode.clusters:
            raise
        print(error, flush=True)
        return None
    made = clustered(sizes, cells, still, config.clusters)
    save_weights(folder, "tokenizer", made.state_dict(), made.config, half=True)
    return ImageTokenizer.load(folder)


def cluster_sizes(like: ImageTokenizerConfig) -> ImageTokenizerConfig:
    """A tokenizer of clusters for the same pictures, with the same cells and as many codes in all, two for a cell."""
    return ImageTokenizerConfig(
        encoder=EncoderKind.patches,
        resolution=like.resolution,
        patch_size=like.patch_size,
        ch_mult=like.ch_mult,
        n_embed=like.n_embed // CODE_BOOKS * CODE_BOOKS,
        code_books=CODE_BOOKS,
        embed_dim=min(COMPONENTS, 3 * like.downscale**2),
    )


def scene_of(buffer: ReplayBuffer, config: TokenizerChoiceConfig) -> Scene:
    """The pictures to learn from and, of held-out episodes, those to measure, see `held_out_episodes`."""
    images = buffer.images(config.camera)
    held_E = held_out_episodes(completed_subtasks(buffer.metadata), config.holdout)
    episode_M = np.searchsorted(buffer.image_ends, np.arange(len(images)), side="right")
    learned, seen = (np.flatnonzero(chosen[episode_M]) for chosen in (~held_E, held_E))
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
        rows=spread(seen, config.measured),
        pairs=spread(pairs, config.measured),
    )


def _settings(config: TokenizerChoiceConfig) -> dict[str, Any]:
    """All that the choice depends on, as JSON values."""
    folder = resolve_weights(config.start)
    hashes = {f"start {stage}": stage_hash(folder, stage) for stage in ("tokenizer", "planner", "head")}
    return settings_of(config, _OF_THE_RUN) | hashes


def _rank(found: Kept) -> tuple[float, float]:
    """Sorts tokenizers measured on the same pictures, the better one last."""
    return (0.0 if found.change is None else found.change, found.median_db)


@torch.no_grad()
def start_with(folder: Path, images: ImageTokenizer, pictures: MappedImages) -> None:
    """Replace the image tokenizer of a weights folder, and let the planner there go on with the codes of the new one.

    pictures: of the set, see `with_tokenizers`.
    """
    planner = Planner.load(folder)
    model, settings = with_tokenizers(planner, planner.text, images, pictures)
    save_weights(folder, "tokenizer", images.state_dict(), images.config, half=True)
    Planner(settings, model, planner.text, images).save(folder)
