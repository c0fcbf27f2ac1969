"""A GPU that computes shapes, types and devices but no numbers, so what would fail on a real one fails here.

Inside `fake_cuda()` every tensor on "cuda" is a fake one. Where the code needs a value on the host (which id was
chosen), it gets 0, 0.5 or True; nothing else is invented. Gradients cannot be traced without a driver.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention.flex_attention import BlockMask

CUDA = torch.device("cuda", 0)


class _FakeGpu(FakeTensorMode):
    chosen: Iterator[int] = iter(())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            kind = args[0].dtype
            return True if kind == torch.bool else 0.5 if kind.is_floating_point else next(self.chosen, 0)
        if func is torch.ops.aten.index.Tensor and getattr(args[1][0], "dtype", None) == torch.bool:
            return args[0].flatten(0, args[1][0].ndim - 1)  # of a mask every place is True
        if func is torch.ops.aten.bincount.default:  # minlength is what the codes never exceed
            return args[0].flatten()[:1].expand((kwargs or {}).get("minlength") or args[2])
        return super().__torch_dispatch__(func, types, args, kwargs)


class _HostGenerator(torch.Generator):
    """One of the CPU that says it is of the device asked for: there is no driver to make one of a GPU."""

    asked: torch.device

    def __new__(cls, device: Any = "cpu") -> "_HostGenerator":
        generator = super().__new__(cls)
        generator.asked = torch.device(device)
        return generator

    @property
    def device(self) -> torch.device:
        return self.asked


def _blocks(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, block_mask: BlockMask) -> torch.Tensor:
    """FlexAttention as far as shapes and types go; its kernel is compiled, which needs a driver."""
    assert q.dtype == k.dtype == v.dtype, f"FlexAttention takes one type, got {q.dtype}, {k.dtype}, {v.dtype}"
    assert q.shape == k.shape == v.shape and block_mask.shape[-2:] == (q.shape[2], k.shape[2])
    return torch.empty_like(q.contiguous() + k + v)


@contextmanager
def fake_cuda(dtype: torch.dtype = torch.float32, chosen: Iterable[int] = ()) -> Iterator[None]:
    """Tensors are created on the fake GPU unless a device is named; new modules have weights of `dtype`.

    chosen: the whole numbers that the host reads first; 0 after them.
    """
    host_numpy = torch.Tensor.numpy

    def numpy(tensor: torch.Tensor, *, force: bool = False) -> np.ndarray:
        if type(tensor) is torch.Tensor:
            return host_numpy(tensor, force=force)
        assert tensor.device.type == "cpu", "numpy of a tensor on the GPU"
        return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "Generator", _HostGenerator)
        patch.setattr(torch.Tensor, "numpy", numpy)
        patch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)  # else no autocast
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
        patch.setattr("torch._subclasses.fake_tensor.CONSTANT_NUMEL_LIMIT", 0)  # values kept would be real ones
        patch.setattr("emu_robot.models.attention._flex", lambda _type: _blocks)
        gpu = _FakeGpu(allow_non_fake_inputs=True)
        gpu.chosen = iter(chosen)
        with gpu, torch.device(CUDA), default_dtype(dtype):
            yield


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """New tensors are of that type, parameters above all."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
