"""Decoder-only transformer in the Qwen3 layout, with the official state-dict names. Ids in, logits out.

Pre-norm RMSNorm, grouped-query attention, RMSNorm on each head's query and key before RoPE (half-split), SwiGLU, no
biases. Knows nothing of words, images or sampling.

Shapes: B batch, L sequence, D hidden, H heads, G key-value heads, P head dimension, V vocabulary, S cache slots.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emu_robot.models.attention import AttentionMask, attend
from emu_robot.models.digits import split_digits
from emu_robot.models.image_naming import ImageNaming
from emu_robot.models.kv_cache import KVCache
from emu_robot.models.rms_norm import RMSNorm
from emu_robot.models.transformer_sizes import TransformerConfig

PREFILL = 512
"""Tokens of the pieces in which longer blocks are fed to a cache, so that memory grows linearly with their length."""


class Attention(nn.Module):
    """Grouped-query attention with normed queries and keys."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.groups, self.dim = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        hidden = config.hidden_size
        self.q_proj = nn.Linear(hidden, self.heads * self.dim, bias=False)
        self.k_proj = nn.Linear(hidden, self.groups * self.dim, bias=False)
        self.v_proj = nn.Linear(hidden, self.groups * self.dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.dim, hidden, bias=False)
        self.q_norm = RMSNorm(self.dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(self.dim, config.rms_norm_eps)
        self.joined: nn.Module | None = None  # stands in for `_project`, see `models.fusion`

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, L, P), keys and values (B, G, L, P) of (B, L, D); queries and keys normed and turned."""
        turning, v = self._project(x) if self.joined is None else self.joined(x)
        q, k = rotate(turning, cos, sin).transpose(1, 2).split((self.heads, self.groups), 1)
        return q, k, v.transpose(1, 2)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normed queries and keys (B, L, H + G, P), and values (B, L, G, P)."""
        q, k, v = (linear(x).unflatten(-1, (-1, self.dim)) for linear in (self.q_proj, self.k_proj, self.v_proj))
        return torch.cat([self.q_norm(q), self.k_norm(k)], 2), v


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.joined: nn.Module | None = None  # stands in for gate and up

    def forward(self, x: Tensor) -> Tensor:
        gate, up = (self.gate_proj(x), self.up_proj(x)) if self.joined is None else self.joined(x)
        return self.down_proj(F.silu(gate) * up)


class Block(nn.Module):
    """Attention and MLP, each on the normed residual stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)
        self.traced: Any = None  # `before` and `after` as traced code, see `models.fusion`

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: AttentionMask | None,
        store: tuple[Tensor, Tensor, slice] | None,
    ) -> Tensor:
        steps = self if self.traced is None else self.traced
        q, k, v = steps.before(x, *rope)
        if store is not None:
            keys, values, slots = store
            keys[:, :, slots], values[:, :, slots] = k, v
            k, v = keys[:, :, : slots.stop], values[:, :, : slots.stop]
        causal = mask is None and q.shape[2] == k.shape[2]
        # One type for all three: under autocast the norms return float32. On a CPU bfloat16 takes twice as long here.
        dtype = torch.float32 if x.device.type == "cpu" else v.dtype
        with torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext():
            attended = attend(q.to(dtype), k.to(dtype), v.to(dtype), mask, causal)
        return steps.after(x, attended.to(x.dtype))

    def before(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All that is left of the attention itself: queries, keys and values, see `Attention.project`."""
        return self.self_attn.project(self.input_layernorm(x), cos, sin)

    def after(self, x: Tensor, attended_BHLP: Tensor) -> Tensor:
        """All that follows it: the new residual stream (B, L, D)."""
        x = x + self.self_attn.o_proj(attended_BHLP.transpose(1, 2).flatten(2))
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

    def embed(self, ids: Tensor) -> Tensor:
        """(..., D) of ids (...), all at least 0."""
        if self.config.code_books == 1:
            return self.embed_tokens(ids)
        rows = embedding_rows(ids, self.config)
        return (self.embed_tokens(rows.clamp(min=0)) * (rows >= 0)[..., None]).sum(-2)

    def forward(
        self,
        ids_BL: Tensor,
        positions_BL: Tensor | None = None,
        *,
        references_BL: Tensor | None = None,
        mask: AttentionMask | None = None,
        cache: KVCache | None = None,
        valid_BL: Tensor | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """Hidden states (B, L, D).

        references_BL: ids, -1 for none, see `TransformerSizes`; default none. positions_BL: default 0, 1, ... (after
        `cache.length` tokens). mask: see `AttentionMask`; default causal. cache: the block is appended to it. valid_BL:
        False for padding; default none. states: receives the residual stream (B, L, D) after each block.
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
        x = self.embed(ids_BL)
        if references_BL is not None and self.config.references:
            referred = self.reference_gain * self.embed(references_BL.clamp(min=0))
            x = x + referred * (references_BL >= 0)[..., None]
        if positions_BL is None:
            begin = cache.length if cache is not None else 0
            positions_BL = torch.arange(begin, begin + ids_BL.shape[1], device=ids_BL.device)[None]
        rope = rotation(positions_BL, self.config)
        slots = None
        if cache is not None:
            slots = cache.reserve(ids_BL.shape[1], valid_BL)
            mask = cache.mask(slots) if mask is None else mask
        for i, layer in enumerate(self.layers):
            store = (cache.keys[i], cache.values[i], slots) if cache is not None and slots is not None else None
            x = layer(x, rope, mask, store)
            if states is not None:
                states.append(x)
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
        if config.code_books > 1:
            width = config.hidden_size
            self.next_digit = nn.Sequential(
                RMSNorm(width, config.rms_norm_eps), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
            )
        if config.n_names:
            self.naming = ImageNaming(config.hidden_size, config.n_names, config.rms_norm_eps)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.heads: dict[tuple[int, int], nn.Module] = {}  # replace rows of lm_head, see `to_int8`

    @property
    def halfway(self) -> int:
        """Index of the block after which `naming` reads the residual stream."""
        return (len(self.model.layers) - 1) // 2

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
    ) -> Tensor:
        """Logits (B, L, V) of every embedding."""
        rows = None if references_BL is None else embedding_rows(references_BL, self.config)[..., 0]
        return self.logits(self.model(ids_BL, positions_BL, references_BL=references_BL), references=rows)

    def digit_logits(self, hidden: Tensor, book: slice, before: Tensor, references: Tensor) -> Tensor:
        """(..., S) logits of the next digit of a code.

        hidden: (..., D) states that predict the code. book: the embeddings of the digit's book. before: (..., p) the
        embeddings of the p digits before it. references: (..., P) those of the code to copy, as `embedding_rows` gives
        them. A digit is copied only after equal ones.
        """
        count = before.shape[-1]
        if count:
            hidden = hidden + self.next_digit(hidden + self.model.embed_tokens(before).sum(-2))
        alike = (before == references[..., :count]).all(-1)
        return self.logits(hidden, book, torch.where(alike, references[..., count], -1))

    def logits(self, hidden: Tensor, ids: slice | None = None, references: Tensor | None = None) -> Tensor:
        """(..., V) logits of hidden states (..., D), for all embeddings or a range of them; references (...): the
        embedding of the input's, which the copy gate favours, -1 for none."""
        ids = ids or slice(0, self.config.vocab_size)
        head = self.heads.get((ids.start, ids.stop))
        logits = F.linear(hidden, self.lm_head.weight[ids]) if head is None else head(hidden)
        if references is None or not self.config.references:
            return logits
        known = (references >= ids.start) & (references < ids.stop)
        place = (references - ids.start).clamp(0, logits.shape[-1] - 1)[..., None]
        return logits.scatter_add_(-1, place, (self.copy_gate(hidden) * known[..., None]).to(logits.dtype))


def embedding_rows(ids: Tensor, config: TransformerConfig) -> Tensor:
    """(..., P) the embeddings that ids (...) are the sum of: one for each digit of a code; one and -1 for other ids."""
    if config.code_books == 1:
        return ids[..., None]
    first, size, books = config.first_code, config.book_size, config.code_books
    rows = split_digits(ids - first, size, books) + first + size * torch.arange(books, device=ids.device)
    others = F.pad(ids[..., None], (0, books - 1), value=-1)
    return torch.where(ids[..., None] >= first, rows, others)


def rotation(positions_BL: Tensor, config: TransformerConfig) -> tuple[Tensor, Tensor]:
    """cos and sin (B, L, H + G, P) of rotary position embedding, or (B, L, 1, P) if all heads are alike.

    The sine of the first half is negative, as `rotate` wants it. Unrotated heads turn at frequency 0.
    """
    device, dim, groups = positions_BL.device, config.head_dim, config.num_key_value_heads
    frequency_P = config.rope_theta ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)
    frequency_NP = frequency_P[None]
    if config.unrotated_groups:
        turns_G = torch.arange(groups, device=device) < groups - config.unrotated_groups
        turns_N = torch.cat([turns_G.repeat_interleave(config.num_attention_heads // groups), turns_G])
        frequency_NP = frequency_NP * turns_N[:, None]
    angle = positions_BL[:, :, None, None].float() * frequency_NP
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply RoPE to heads (B, L, N, P), in their type; the halves of P pair with each other."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin).to(x.dtype)


def _pieces(block: Tensor | None, length: int) -> Sequence[Tensor | None]:
    """A block of `length` tokens in pieces for a cache."""
    return block.split(PREFILL, 1) if block is not None else [None] * -(-length // PREFILL)
