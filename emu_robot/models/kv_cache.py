"""Keys and values that a transformer keeps of the tokens it has seen.

Shapes: B batch, L block, G key-value heads, P head dimension, S cache slots.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from emu_robot.errors import InvalidValueError
from emu_robot.models.transformer_sizes import TransformerConfig

FIRST_SLOTS = 1024
"""Initial slots of a cache, or its maximum if that is less."""


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
