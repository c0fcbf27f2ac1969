"""Images <-> codes: a convolutional IBQ tokenizer that loads the official Emu3.5 layout or a small one for a CPU.

Shapes: B batch, H W pixels, h w grid of cells, n codes, row by row, one for each cell. Pixels in [-1, 1] as tensors,
uint8 RGB as arrays.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emu_robot.errors import InvalidValueError, ShapeError
from emu_robot.models.tracing import frozen, traced
from emu_robot.models.weights import load_weights, restore
from emu_robot.shared.settings import check_ranges, number
from emu_robot.tokenizers.local_encoder import LocalEncoder, distinct
from emu_robot.tokenizers.object_naming import ObjectNaming, SeenObject
from emu_robot.tokenizers.patches import PatchDecoder, PatchEncoder, ResidualQuantizer
from emu_robot.tokenizers.quantizer import IndexBackpropagationQuantizer, ProductQuantizer, Quantized
from emu_robot.tokenizers.vqgan import Decoder, Encoder

MOST_NAMES = 2**12
MOST_CODES = 2**32
"""Different codes of a cell; they are stored in 32 bits."""
OF_A_NETWORK = (
    *("ch", "num_res_blocks", "attn_resolutions", "mid_attention", "z_channels", "beta"),
    *("learned_position", "l2_norm", "scale"),
)
"""Sizes and settings that clusters have no use for."""


class EncoderKind(StrEnum):
    """Ways from pixels to codes."""

    local = "local"
    """A network that encodes every cell by itself (`LocalEncoder`)."""
    official = "official"
    """The official network, which sees the whole image."""
    patches = "patches"
    """Clusters of patches, without a network (`tokenizers.patches`)."""


@dataclass(frozen=True, kw_only=True)
class ImageTokenizerSizes:
    """Sizes of an image tokenizer. Names follow the official `ddconfig`; defaults are those of the mini tokenizer
    (128 px -> 8 x 8 codes)."""

    patch_size: int = number(4, 1, 2**8)
    """Side of the squares that become channels before the first convolution [px]."""
    ch: int = number(32, 1, 2**12)
    """Channels of the finest feature map."""
    ch_mult: list[int] = field(default_factory=lambda: [1, 2, 4])
    """Multiples of `ch` at each level; every level after the first halves height and width."""
    num_res_blocks: int = number(1, 1, 64)
    """Residual blocks of each level."""
    attn_resolutions: list[int] = field(default_factory=list)
    """Sides of the feature maps with attention [cells]."""
    mid_attention: bool = True
    """Attention at the coarsest level."""
    z_channels: int = number(64, 1, 2**14)
    """Channels between the convolutions and the quantiser."""
    embed_dim: int = number(32, 1, 2**14)
    """Dimensions of a code's embedding."""
    n_embed: int = number(4096, 2, 2**24)
    """Number of codes in the codebook."""
    code_books: int = number(1, 1, 16)
    """Books of codes. With several the code of a cell is a number with a digit for each; the codebook is cut into as
    many parts, and so is the embedding, or with encoder=patches it is their sum."""
    beta: float = number(0.25, 0, 1e6)
    """Weight of the commitment loss."""
    learned_position: bool = True
    """Give the decoder the place of a cell, so that the background of a fixed camera needs no code."""
    encoder: EncoderKind = EncoderKind.local
    """local | official | patches, see `EncoderKind`."""
    local_width: int = number(256, 1, 2**14)
    """Width of the local encoder."""
    local_blocks: int = number(3, 0, 64)
    """Residual blocks of the local encoder."""
    l2_norm: bool = True
    """Normalise vectors to unit length before the comparison with the codebook."""
    scale: float = number(10.0, above=0, high=1e6)
    """Factor of the inner products in the training softmax."""
    naming_width: int = number(96, 1, 2**12)
    """Width of the network that names objects from their codes, where the training set tells what is seen."""

    def __post_init__(self) -> None:
        check_ranges(self, "tokenizer")
        for name, least, most in (("ch_mult", 1, 64), ("attn_resolutions", 0, 2**14)):
            values = getattr(self, name)
            if not least <= len(values) <= 8 or not all(0 < value <= most for value in values):
                few = f"{str(values)[:60]}, must be {least} to 8"
                raise InvalidValueError(f"tokenizer.{name} is {few} whole numbers in 1..{most}")
        parts = self.code_books
        for name in ("n_embed",) if self.encoder is EncoderKind.patches else ("n_embed", "embed_dim"):
            if (size := getattr(self, name)) % parts:
                raise InvalidValueError(f"tokenizer.{name} is {size}, must be a multiple of code_books={parts}")
        if self.code_values > MOST_CODES:
            raise InvalidValueError(
                f"tokenizer.code_books={parts} of {self.book_size} codes make over {MOST_CODES} codes"
            )

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        idle: list[str] = [] if self.encoder is EncoderKind.local else ["local_width", "local_blocks"]
        if self.encoder is EncoderKind.patches:
            idle += OF_A_NETWORK
        return dict.fromkeys(idle, f"encoder={self.encoder}")

    @property
    def book_size(self) -> int:
        """Codes of each book."""
        return self.n_embed // self.code_books

    @property
    def code_values(self) -> int:
        """Number of different codes that a cell may have."""
        return self.book_size**self.code_books

    @property
    def downscale(self) -> int:
        """Pixels per cell along each side."""
        return self.patch_size * 2 ** (len(self.ch_mult) - 1)


@dataclass(frozen=True, kw_only=True)
class ImageTokenizerConfig(ImageTokenizerSizes):
    """Configuration of an image tokenizer: its sizes, and the size of its images."""

    resolution: int = number(128, 1, 2**14)
    """Height and width of an image [px]; a multiple of `downscale`."""
    names: list[str] = field(default_factory=list)
    """Names of the objects that it learned to name from the codes; none: it names nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.names) > MOST_NAMES or len(set(self.names)) < len(self.names):
            raise InvalidValueError(
                f"tokenizer.names are {len(self.names)}, must be different and at most {MOST_NAMES}"
            )
        if self.resolution % self.downscale:
            raise InvalidValueError(f"resolution is {self.resolution}, must be a multiple of {self.downscale}")

    @property
    def grid(self) -> int:
        """Cells along each side of an image."""
        return self.resolution // self.downscale

    @property
    def n_codes(self) -> int:
        """Codes of an image."""
        return self.grid**2


class Reconstruction(NamedTuple):
    """Images (B, 3, H, W), about [-1, 1] and not clipped, with codes and losses."""

    images: Tensor
    quantized: Quantized


def _coders(config: ImageTokenizerConfig) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder."""
    if config.encoder is EncoderKind.patches:
        size = (config.resolution, config.downscale)
        return PatchEncoder(*size), PatchDecoder(*size)
    layout = {
        name: getattr(config, name)
        for name in (
            *("ch", "ch_mult", "num_res_blocks", "attn_resolutions", "mid_attention"),
            *("resolution", "z_channels", "patch_size", "learned_position"),
        )
    }
    if config.encoder is EncoderKind.official:
        return Encoder(**layout), Decoder(**layout)
    encoder = LocalEncoder(
        ch=2 * config.ch,
        width=config.local_width,
        blocks=config.local_blocks,
        patch_size=config.patch_size,
        downscale=config.downscale,
        z_channels=config.z_channels,
    )
    return encoder, Decoder(**layout)


def _quantizer(config: ImageTokenizerConfig) -> IndexBackpropagationQuantizer | ProductQuantizer | ResidualQuantizer:
    if config.encoder is EncoderKind.patches:
        return ResidualQuantizer(config.n_embed, config.embed_dim, config.code_books)
    book = (config.n_embed, config.embed_dim, config.beta, config.l2_norm, config.scale)
    one = config.code_books == 1
    return IndexBackpropagationQuantizer(*book) if one else ProductQuantizer(*book, config.code_books)


class ImageTokenizer(nn.Module):
    """Encoder, quantiser and decoder. State-dict names are those of the official checkpoints."""

    def __init__(self, config: ImageTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = _coders(config)
        self.quantize = _quantizer(config)
        channels = 3 * config.downscale**2 if config.encoder is EncoderKind.patches else config.z_channels
        self.quant_conv = nn.Conv2d(channels, config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, channels, 1)
        named = bool(config.names)
        self.naming = ObjectNaming(config.embed_dim, config.names, config.naming_width) if named else None

    @classmethod
    def load(cls, folder: str | Path, stage: str = "tokenizer") -> "ImageTokenizer":
        """The tokenizer of a weights folder, in evaluation mode."""
        weights = load_weights(folder, stage)
        config = weights.settings(ImageTokenizerConfig)
        tokenizer = restore(lambda: cls(config), weights, stage)
        return tokenizer.eval().requires_grad_(False)

    def forward(self, images_B3HW: Tensor) -> Reconstruction:
        """Training pass."""
        if isinstance(self.encoder, LocalEncoder) and images_B3HW.device.type == "cpu":
            quantized = self._quantized_cells(self.encoder, images_B3HW)
        else:
            quantized = self.trained_books(self.features(images_B3HW))
        return Reconstruction(self.decoder(self.post_quant_conv(quantized.z_q)), quantized)

    def _quantized_cells(self, encoder: LocalEncoder, images_B3HW: Tensor) -> Quantized:
        """The same with equal cells computed once: most of them show the background. Losses are means over distinct
        cells, so that the background does not outweigh what moves."""
        cells = encoder.split(images_B3HW)
        first_U, like_N = distinct(cells)
        each = self.trained_books(self.quant_conv(encoder.of_cells(cells[first_U])))
        batch, grid = len(images_B3HW), self.config.grid
        z_q = each.z_q.flatten(1)[like_N].view(batch, grid, grid, -1).permute(0, 3, 1, 2)
        return each._replace(z_q=z_q, codes=each.codes.flatten(1)[like_N].view(batch, grid, -1))

    def features(self, images_B3HW: Tensor) -> Tensor:
        """Features (B, embed_dim, h, w) before the quantisation."""
        return self.quant_conv(self.encoder(images_B3HW))

    def encode(self, images_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> codes (B, h, w) int64."""
        return self.quantize.encode(self.features(images_B3HW))

    def decode(self, codes_Bhw: Tensor) -> Tensor:
        """Codes (B, h, w) int64 -> (B, 3, H, W), about [-1, 1]."""
        return self.decoder(self.post_quant_conv(self.quantize.decode(codes_Bhw).contiguous()))

    def seen_objects(self, codes: NDArray[np.integer]) -> list[list[SeenObject]]:
        """The objects that the codes (B, n) of images show; none if the tokenizer names nothing."""
        if self.naming is None:
            return [[] for _ in codes]
        return self.naming.objects(self.quantize.decode(self._grid(codes)).contiguous())

    @torch.inference_mode()
    def encode_images(self, images: NDArray[np.uint8], batch_size: int = 64) -> NDArray[np.uint32]:
        """(B, H, W, 3) uint8 -> (B, n) uint32 codes, row-major."""
        size = self.config.resolution
        if images.ndim != 4 or images.shape[1:] != (size, size, 3) or images.dtype != np.uint8:
            raise ShapeError("images", f"{images.shape} {images.dtype}", f"(B, {size}, {size}, 3) uint8")
        codes = np.empty((len(images), self.config.n_codes), np.uint32)
        for i in range(0, len(images), batch_size):
            batch = to_pixels(torch.from_numpy(np.ascontiguousarray(images[i : i + batch_size])).to(self._device))
            codes[i : i + batch_size] = self.encode(batch).flatten(1).cpu().numpy()
        return codes

    @torch.inference_mode()
    def decode_images(self, codes: NDArray[np.integer]) -> NDArray[np.uint8]:
        """(B, n) codes -> (B, H, W, 3) uint8."""
        return to_uint8(self.decode(self._grid(codes))).cpu().numpy()

    def _grid(self, codes: NDArray[np.integer]) -> Tensor:
        """(B, n) codes -> (B, h, w) int64, checked."""
        count = self.config.n_codes
        if codes.ndim != 2 or codes.shape[1] != count:
            raise ShapeError("codes", codes.shape, f"(B, {count})")
        if codes.size and (codes.min() < 0 or codes.max() >= self.config.code_values):
            known = f"0..{self.config.code_values - 1}"
            raise InvalidValueError(f"codes span {codes.min()}..{codes.max()}, must be in {known}")
        return torch.from_numpy(codes.astype(np.int64)).to(self._device).view(-1, self.config.grid, self.config.grid)

    @property
    def trained_books(self) -> IndexBackpropagationQuantizer | ProductQuantizer:
        """The quantiser of a network. Raises `InvalidValueError` for clusters, which no step trains."""
        if isinstance(self.quantize, ResidualQuantizer):
            raise InvalidValueError("an image tokenizer of encoder=patches is made of clusters, not trained by steps")
        return self.quantize

    def freeze(self) -> None:
        """Make traced code of encoder and decoder, in place, see `models.tracing`; on the CPU, for inference alone."""
        config, like = self.config, self.quant_conv.weight
        channels = self.post_quant_conv.out_channels
        pixels = like.new_zeros(1, 3, config.resolution, config.resolution).to(memory_format=torch.channels_last)
        self.encoder = traced(self.encoder, forward=(pixels,))
        codes = like.new_zeros(1, channels, config.grid, config.grid)
        self.decoder = frozen(self.decoder.to(memory_format=torch.contiguous_format), codes)  # pyright: ignore

    @property
    def _device(self) -> torch.device:
        return self.quant_conv.weight.device


def to_pixels(images_BHW3: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) -> float (B, 3, H, W) in [-1, 1], channels last in memory."""
    return images_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(pixels_B3HW: Tensor) -> Tensor:
    """float (B, 3, H, W) in [-1, 1] -> uint8 (B, H, W, 3)."""
    return ((pixels_B3HW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
