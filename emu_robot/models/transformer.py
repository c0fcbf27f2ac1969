"""Decoder-only transformer in the Qwen3 layout, with the official state-dict names. Ids in, logits out.

Pre-norm RMSNorm, grouped-query attention, RMSNorm on each head's query and key before RoPE (half-split), SwiGLU, no
biases. Knows nothing of words, images or sampling.

Shapes: B batch, L sequence, D hidden, H heads, G key-value heads, P head dimension, V vocabulary, S cache slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emu_robot.errors import InvalidValueError
from emu_robot.models.attention import AttentionMask, attend
from emu_robot.shared.settings import check_ranges, number


@dataclass(frozen=True, kw_only=True)
class TransformerSizes:
    """Sizes of a transformer. Names follow the official config.json; defaults are the mini planner's.

    Four defaults differ from the official model. A small `rope_theta`, tied embeddings and `references` help to copy
    codes from the image before. `unrotated_groups` helps with words.
    """

    hidden_size: int = number(256, 1, 2**17)
    """Width of the residual stream."""
    intermediate_size: int = number(768, 1, 2**20)
    """Width inside each block's MLP."""
    num_hidden_layers: int = number(6, 1, 1024)
    """Blocks."""
    num_attention_heads: int = number(8, 1, 4096)
    """Heads of queries; a multiple of `num_key_value_heads`."""
    num_key_value_heads: int = number(4, 1, 4096)
    """Heads of keys and values; each is shared by a group of query heads."""
    head_dim: int = number(32, 2, 4096)
    """Dimensions of a head; an even number."""
    rope_theta: float = number(10.0, above=0, high=1e12)
    """Base of the rotary positions. With the official 1e6, few of 32 dimensions tell neighbouring places apart."""
    unrotated_groups: int = number(2, 0, 4096)
    """Key-value heads without rotary positions, at most all. They find similar words at any distance, for which a small
    `rope_theta` has no slow frequency."""
    rms_norm_eps: float = number(1e-6, 0, 1)
    """Added to the mean square that a norm divides by."""
    initializer_range: float = number(0.02, above=0, high=100)
    """Standard deviation of the weights before training."""
    tie_word_embeddings: bool = True
    """One matrix reads and writes ids."""
    references: bool = True
    """In an image after another, give the model the other one's code at the next place: its embedding is added to the
    input, and a gate adds to its logit."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.unrotated_groups > self.num_key_value_heads:
            raise InvalidValueError(
                f"unrotated_groups is {self.unrotated_groups}, must be in 0..{self.num_key_value_heads}"
            )
        if self.num_attention_heads % self.num_key_value_heads or self.head_dim % 2:
            raise InvalidValueError(
                f"{self.num_attention_heads} heads must be a multiple of {self.num_key_value_heads} key-value heads, "
                f"and head_dim {self.head_dim} even"
            )


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(TransformerSizes):
    """A whole transformer: its sizes and its vocabulary."""

    vocab_size: int = number(5136, 1, 2**24)
    """Number of ids that it reads and writes."""


FIRST_SLOTS = 1024
"""Initial slots of a cache, or its maximum if that is less."""
PREFILL = 512
"""Tokens of the pieces in which longer blocks are fed to a cache, so that memory grows linearly with their length."""


class KVCache:
    """Keys and values of tokens already seen. Memory grows by doubling, one layer after the other.

    All rows share slot numbers; `valid_BS` is False for slots of padding. `length`: slots in use. Setting it back
    forgets later tokens (a rejected or noisy image).
    """

    def __init__(
        self,
        config: TransformerConfig,
        batch: int,
        slots: int,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        layer_devices: Sequence[torch.device] = (),
    ) -> None:
        """slots: the maximum. layer_devices: device of each layer's keys and values, if not `device`."""
        empty = (batch, config.num_key_value_heads, 0, config.head_dim)
        places = layer_devices or [device] * config.num_hidden_layers
        self.keys = [torch.empty(empty, device=place, dtype=dtype) for place in places]
        self.values = [torch.empty(empty, device=place, dtype=dtype) for place in places]
        self.valid_BS = torch.empty(batch, 0, dtype=torch.bool, device=device)
        self.slots, self.length = slots, 0
        self.padded = False

    @property
    def capacity(self) -> int:
        """Slots with memory at present."""
        return self.valid_BS.shape[1]

    def reserve(self, count: int, valid_BL: Tensor | None = None) -> slice:
        """Claim the next slots for a block of `count` tokens; valid_BL: False for padding, None without any.

        Raises `InvalidValueError` beyond `slots`.
        """
        slots = slice(self.length, self.length + count)
        if slots.stop > self.slots:
            raise InvalidValueError(f"the sequence needs {slots.stop} cache slots, there are {self.slots}")
        if slots.stop > self.capacity:
            self._grow(min(max(slots.stop, 2 * self.capacity, FIRST_SLOTS), self.slots))
        self.valid_BS[:, slots] = True if valid_BL is None else valid_BL
        self.padded = self.padded or valid_BL is not None
        self.length = slots.stop
        return slots

    def mask(self, slots: slice) -> Tensor | None:
        """(B, 1, L, length) bool, the slots that each new token may attend to; None if it may attend to all, or if the
        block is the first and causal."""
        count = slots.stop - slots.start
        if not self.padded and (count == 1 or slots.start == 0):
            return None
        index = torch.arange(slots.stop, device=self.valid_BS.device)
        causal = index[None, :] <= index[slots.start :, None]
        own = index[None, :] == index[slots.start :, None]
        return ((self.valid_BS[:, None, : slots.stop] & causal) | own)[:, None]

    def _grow(self, capacity: int) -> None:
        more = capacity - self.capacity
        for store in (self.keys, self.values):
            for i, old in enumerate(store):
                store[i] = torch.cat([old, old.new_empty((*old.shape[:2], more, old.shape[3]))], 2)
        self.valid_BS = F.pad(self.valid_BS, (0, more), value=False)


def cache_bytes(config: TransformerConfig, slots: int, itemsize: int) -> int:
    """Bytes of one layer's keys and values of a row."""
    return 2 * config.num_key_value_heads * config.head_dim * slots * itemsize


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.to(self.weight.dtype), self.weight.shape, self.weight, self.eps)


class JoinedLinear(nn.Module):
    """Linear layers with the same input, computed as one product; returns the output of each."""

    def __init__(self, *layers: nn.Linear) -> None:
        super().__init__()
        self.sizes = [layer.out_features for layer in layers]
        self.linear = nn.Linear(layers[0].in_features, sum(self.sizes), bias=False)
        self.linear.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]), requires_grad=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.linear(x).split(self.sizes, -1)


class Attention(nn.Module):
    """Grouped-query attention with normed queries and keys."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.groups, self.dim = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        self.rotated = config.num_key_value_heads - config.unrotated_groups
        hidden = config.hidden_size
        self.q_proj = nn.Linear(hidden, self.heads * self.dim, bias=False)
        self.k_proj = nn.Linear(hidden, self.groups * self.dim, bias=False)
        self.v_proj = nn.Linear(hidden, self.groups * self.dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.dim, hidden, bias=False)
        self.joined: JoinedLinear | None = None  # stands in for the projections of queries, keys and values
        self.q_norm = RMSNorm(self.dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(self.dim, config.rms_norm_eps)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: AttentionMask | None,
        store: tuple[Tensor, Tensor, slice] | None,
    ) -> Tensor:
        batch, length, _ = x.shape
        repeats = self.heads // self.groups
        q, k, v = self.joined(x) if self.joined else (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        q = self.q_norm(q.view(batch, length, self.heads, self.dim)).transpose(1, 2)
        k = self.k_norm(k.view(batch, length, self.groups, self.dim)).transpose(1, 2)
        q, k = rotate(q, rope, self.rotated * repeats), rotate(k, rope, self.rotated)
        v = v.view(batch, length, self.groups, self.dim).transpose(1, 2)
        if store is not None:
            keys, values, slots = store
            keys[:, :, slots], values[:, :, slots] = k, v
            k, v = keys[:, :, : slots.stop], values[:, :, : slots.stop]
        causal = mask is None and q.shape[2] == k.shape[2]
        # One type for all three: under autocast the norms return float32. On a CPU bfloat16 takes twice as long here.
        dtype = torch.float32 if x.device.type == "cpu" else v.dtype
        with torch.autocast("cpu", enabled=False):
            attended = attend(q.to(dtype), k.to(dtype), v.to(dtype), mask, causal)
        return self.o_proj(attended.to(x.dtype).transpose(1, 2).reshape(batch, length, -1))


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.joined: JoinedLinear | None = None  # stands in for gate and up

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.joined(x) if self.joined else (self.gate_proj(x), self.up_proj(x))
        return self.down_proj(F.silu(gate) * up)


class Block(nn.Module):
    """Attention and MLP, each on the normed residual stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: AttentionMask | None,
        store: tuple[Tensor, Tensor, slice] | None,
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, store)
        return x + self.mlp(self.post_attention_layernorm(x))


class Backbone(nn.Module):
    """Embeddings, blocks, final norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.references:
            self.reference_gain = nn.Parameter(torch.full((config.hidden_size,), 2.0))
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        ids_BL: Tensor,
        positions_BL: Tensor | None = None,
        *,
        references_BL: Tensor | None = None,
        mask: AttentionMask | None = None,
        cache: KVCache | None = None,
        valid_BL: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, L, D).

        references_BL: ids, -1 for none, see `TransformerSizes`; default none. positions_BL: default 0, 1, ... (after
        `cache.length` tokens). mask: see `AttentionMask`; default causal. cache: the block is appended to it. valid_BL:
        False for padding; default none.
        """
        if cache is not None and mask is None and ids_BL.shape[1] > PREFILL:
            blocks = (ids_BL, positions_BL, references_BL, valid_BL)
            pieces = zip(*(_pieces(block, ids_BL.shape[1]) for block in blocks), strict=True)
            return torch.cat(
                [
                    self(ids, places, references_BL=other, cache=cache, valid_BL=valid)
                    for ids, places, other, valid in pieces
                ],
                1,
            )
        x = self.embed_tokens(ids_BL)
        if references_BL is not None and self.config.references:
            referred = self.reference_gain * self.embed_tokens(references_BL.clamp(min=0))
            x = x + referred * (references_BL >= 0)[..., None]
        if positions_BL is None:
            begin = cache.length if cache is not None else 0
            positions_BL = torch.arange(begin, begin + ids_BL.shape[1], device=ids_BL.device)[None]
        rope = rotation(positions_BL, self.config.head_dim, self.config.rope_theta)
        slots = None
        if cache is not None:
            slots = cache.reserve(ids_BL.shape[1], valid_BL)
            mask = cache.mask(slots) if mask is None else mask
        for i, layer in enumerate(self.layers):
            store = (cache.keys[i], cache.values[i], slots) if cache is not None and slots is not None else None
            x = layer(x, rope, mask, store)
        return self.norm(x)


class CausalTransformer(nn.Module):
    """Backbone and head, as `model.*` and `lm_head.weight`, which is the embedding itself when tied."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=config.initializer_range)
        if config.references:
            self.copy_gate = nn.Linear(config.hidden_size, 1, bias=False)
            nn.init.zeros_(self.copy_gate.weight)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.heads: dict[tuple[int, int], nn.Module] = {}  # replace rows of lm_head, see `to_int8`

    @property
    def is_int8(self) -> bool:
        """Whether `to_int8` has rounded the weights."""
        return bool(self.heads)

    def forward(
        self,
        ids_BL: Tensor,
        positions_BL: Tensor | None = None,
        *,
        references_BL: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Logits (B, L - first, V) of all positions from `first` on."""
        hidden_BLD = self.model(ids_BL, positions_BL, references_BL=references_BL)[:, first:]
        return self.logits(hidden_BLD, references=None if references_BL is None else references_BL[:, first:])

    def logits(self, hidden: Tensor, ids: slice | None = None, references: Tensor | None = None) -> Tensor:
        """(..., V) logits of hidden states (..., D), for all ids or a range; references (...): the input's."""
        ids = ids or slice(0, self.config.vocab_size)
        head = self.heads.get((ids.start, ids.stop))
        logits = F.linear(hidden, self.lm_head.weight[ids]) if head is None else head(hidden)
        if references is None or not self.config.references:
            return logits
        known = (references >= ids.start) & (references < ids.stop)
        place = (references - ids.start).clamp(0, logits.shape[-1] - 1)[..., None]
        return logits.scatter_add(-1, place, (self.copy_gate(hidden) * known[..., None]).to(logits.dtype))


def rotation(positions_BL: Tensor, dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin (B, 1, L, P) of rotary position embedding."""
    frequency = theta ** (-torch.arange(0, dim, 2, device=positions_BL.device, dtype=torch.float32) / dim)
    angle = positions_BL[:, None, :, None].float() * frequency
    angle = torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, rope: tuple[Tensor, Tensor], count: int) -> Tensor:
    """Apply RoPE to the first `count` heads of (B, H, L, P), in their type; the halves of P pair with each other."""
    (cos, sin), turning = rope, x[:, :count]
    first, second = turning.chunk(2, -1)
    turned = (turning * cos + torch.cat([-second, first], -1) * sin).to(x.dtype)
    return turned if count == x.shape[1] else torch.cat([turned, x[:, count:]], 1)


def _pieces(block: Tensor | None, length: int) -> Sequence[Tensor | None]:
    """A block of `length` tokens in pieces for a cache."""
    return block.split(PREFILL, 1) if block is not None else [None] * -(-length // PREFILL)
