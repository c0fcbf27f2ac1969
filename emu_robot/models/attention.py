"""Attention of queries to keys under a mask: dense on the CPU, block-sparse (FlexAttention) on a GPU, equal results.

Shapes: B batch, H heads, G key-value heads (each for H / G heads in a row), L queries, S keys, P head dimension.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

type AttentionMask = Tensor | BlockMask
"""A bool tensor broadcastable to (B, H, L, S), True = may attend, or the same as blocks for FlexAttention."""


def attend(q_BHLP: Tensor, k_BGSP: Tensor, v_BGSP: Tensor, mask: AttentionMask | None, causal: bool) -> Tensor:
    """(B, H, L, P) scaled dot-product attention."""
    repeats, length, dim = q_BHLP.shape[1] // k_BGSP.shape[1], q_BHLP.shape[2], q_BHLP.shape[3]
    # A block of few queries: the heads of a group stand as further queries, so a long cache is read as it is and the
    # mask is copied for each of them. Of many queries the mask is the larger, and keys and values are copied.
    if causal or isinstance(mask, BlockMask) or length >= 2 * dim * k_BGSP.itemsize:
        k_BHSP, v_BHSP = k_BGSP.repeat_interleave(repeats, 1), v_BGSP.repeat_interleave(repeats, 1)
        if isinstance(mask, BlockMask):
            return _flex(q_BHLP.device.type)(q_BHLP, k_BHSP, v_BHSP, block_mask=mask)
        return F.scaled_dot_product_attention(q_BHLP, k_BHSP, v_BHSP, attn_mask=mask, is_causal=causal)
    q_BGMP = q_BHLP.reshape(*k_BGSP.shape[:2], -1, dim)
    if mask is not None and repeats > 1:
        mask = mask.unsqueeze(-3).expand(*mask.shape[:-2], repeats, *mask.shape[-2:]).flatten(-3, -2)
    return F.scaled_dot_product_attention(q_BGMP, k_BGSP, v_BGSP, attn_mask=mask).reshape(q_BHLP.shape)


@cache
def _flex(device_type: str) -> Any:
    """FlexAttention, compiled on a GPU, where it is sparse. On the CPU it serves for comparison."""
    return torch.compile(flex_attention, dynamic=False) if device_type == "cuda" else flex_attention


def copies_mask(last_BS: Tensor, copy_S: Tensor) -> AttentionMask:
    """Mask of a clean sequence with noisy copies of its parts after it; dense, or in blocks on a GPU.

    copy_S: 0 for clean tokens, else the number of the copy. Every token sees the clean tokens up to `last_BS` and the
    tokens of its own copy.
    """
    return copies_blocks(last_BS, copy_S) if last_BS.device.type == "cuda" else copies_dense(last_BS, copy_S)


def copies_dense(last_BS: Tensor, copy_S: Tensor) -> Tensor:
    """(B, 1, S, S) bool."""
    clean_S = copy_S == 0
    sees_clean_BSS = clean_S & (torch.arange(len(copy_S), device=copy_S.device) <= last_BS[:, :, None])
    same_copy_SS = (copy_S[:, None] == copy_S) & ~clean_S
    return (sees_clean_BSS | same_copy_SS)[:, None]


def copies_blocks(last_BS: Tensor, copy_S: Tensor) -> BlockMask:
    """The same as a block mask."""

    def visible(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return torch.where(copy_S[key] == 0, key <= last_BS[row, query], copy_S[key] == copy_S[query])

    batch, length = last_BS.shape
    return create_block_mask(visible, batch, None, length, length, device=str(last_BS.device))
