"""One training loop for every stage. Knows batches and losses, nothing of robots, images or words.

A run that is killed and started again ends with bit-identical weights. The batch and every random number of a step
depend on (seed, step) alone; model, optimiser and EMA are restored from the checkpoint.
"""

import copy
import math
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emu_robot.errors import ConfigError, InvalidValueError, SystemSetupError, UnknownNameError
from emu_robot.shared.files import require_disk_space
from emu_robot.shared.interrupts import stop_request
from emu_robot.shared.settings import check_ranges, number
from emu_robot.training.checkpoint import load_checkpoint, load_initial_state, save_checkpoint
from emu_robot.training.progress import METRICS, TrainingProgress
from emu_robot.training.tracking import TrackerName, check_tracker, start_tracker

type Batch = dict[str, Tensor]
type Metrics = dict[str, float | Tensor]
type BatchFn = Callable[[int], Batch]
type LossFn = Callable[[nn.Module, Batch], tuple[Tensor, Metrics]]
type EvalFn = Callable[[nn.Module], dict[str, float]]


class DType(StrEnum):
    """Number formats of a training."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


CHECKPOINT = "checkpoint.pt"
_RESUME_MUST_MATCH = (
    "batch_size",
    "lr",
    "beta1",
    "beta2",
    "warmup_steps",
    "weight_decay",
    "grad_clip",
    "ema_decay",
    "seed",
)


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Settings of the optimisation. The learning rate rises linearly, then falls as a cosine to 0 at `steps`."""

    steps: int = number(10_000, 1)
    """Number of optimiser steps."""
    batch_size: int = number(32, 1)
    """Examples per step."""
    lr: float = number(3e-4, above=0)
    """Highest learning rate."""
    beta1: float = number(0.9, 0, below=1)
    """AdamW's decay of the mean gradient."""
    beta2: float = number(0.99, 0, below=1)
    """AdamW's decay of the mean squared gradient."""
    warmup_steps: int = number(200, 0)
    """Steps over which the learning rate rises."""
    weight_decay: float = number(0.01, 0)
    """AdamW's weight decay; only matrices and kernels decay."""
    grad_clip: float = number(1.0, 0)
    """Largest norm of the gradient; 0 does not clip it."""
    ema_decay: float = number(0.999, 0, below=1)
    """Decay of the running mean of the weights. The mean is saved; 0 saves the last weights."""
    seed: int = number(0, 0)
    """Seed of every random number."""
    threads: int = number(0, 0)
    """Threads of torch; 0: its own choice."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:N."""
    dtype: DType = DType.float32
    """Number format of the matrix products; auto: bfloat16 where the device has instructions for it, else float32. It
    is about 4 times faster on GPUs and on CPUs with avx512_bf16, and 80 times slower on other CPUs."""
    compile: bool = False
    """Compile the loss with torch.compile."""
    channels_last: bool = False
    """Store the channels of a pixel together in memory, which makes convolutions faster."""
    prefetch: int = number(0, 0)
    """Threads that prepare the next batches, so that a GPU does not wait; 0 prepares each batch when it is needed."""
    log_every: int = number(50, 1)
    """Steps between two lines of metrics."""
    save_every: int = number(500, 1)
    """Steps between two checkpoints."""
    eval_every: int = number(0, 0)
    """Steps between two evaluations; 0 evaluates after the last step only."""
    init_from: Path | None = None
    """checkpoint.pt or .safetensors file with the first weights of a new run; null: untrained, or as `start` says."""
    track: TrackerName = field(default=TrackerName.none, repr=False)
    """Tracker of the metrics besides metrics.jsonl. It may change when a run is resumed, and is no part of its repr."""

    def __post_init__(self) -> None:
        check_ranges(self)


def step_rng(seed: int, step: int, stream: int = 0) -> np.random.Generator:
    """Random numbers of one step, independent of all other steps. `stream` separates independent uses."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, step, stream))))


def learning_rate(config: LoopConfig, step: int) -> float:
    """Learning rate of `step`, counted from 0."""
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return config.lr * warmup * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def select_device(name: str) -> torch.device:
    """The device; `auto` is CUDA if present, else the CPU. Raises `UnknownNameError`, `SystemSetupError`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if name != "cpu" and (kind != "cuda" or (":" in name and not index.isdecimal())):
        raise UnknownNameError("device", name, ("auto", "cpu", "cuda", "cuda:N"))
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise SystemSetupError(f"device={name}: this machine has {torch.cuda.device_count()} CUDA devices; use cpu")
    return torch.device(name)


def in_bfloat16(dtype: DType, device: torch.device) -> bool:
    """Whether matrix products are to be of bfloat16. Says so if that is slow on this machine."""
    quick = (
        torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else quick_bfloat16_on_cpu()
    )
    if dtype == DType.bfloat16 and not quick:
        print(f"loop.dtype=bfloat16 is slow here: this {device.type} has no instructions for it; auto uses float32")
    return quick if dtype == DType.auto else dtype == DType.bfloat16


def quick_bfloat16_on_cpu() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def check_loop(config: LoopConfig, folder: Path | None = None) -> None:
    """Check the settings as `fit` would, before anything is written.

    folder: the stage's folder with its checkpoint. Raises the errors of `select_device`, `check_tracker` and
    `load_initial_state`, and `ConfigError` if the checkpoint there was trained with other settings.
    """
    select_device(config.device)
    check_tracker(config.track)
    if config.init_from is not None:
        load_initial_state(config.init_from)
    if folder is not None and (folder / CHECKPOINT).exists():
        _read_run(folder / CHECKPOINT, config)


def fit(
    model: nn.Module,
    batch_fn: BatchFn,
    loss_fn: LossFn,
    config: LoopConfig,
    out: Path,
    stage: str,
    eval_fn: EvalFn | None = None,
    *,
    settings: Any = None,
) -> nn.Module:
    """Train `model` for `config.steps` steps, or finish an interrupted run. Returns its EMA weights on the CPU.

    batch_fn: step -> dict of CPU tensors; must depend on the step alone (see `step_rng`); with `config.prefetch` it is
    called by several threads at once.
    loss_fn: (model, batch) -> (scalar loss, metrics to log); may draw from torch's global generator.
    eval_fn: (EMA model) -> metrics, called every `config.eval_every` steps and after the last one.
    settings: the stage's whole configuration, a dataclass, for a tracker to show; without it `config` is shown.
    Writes out/<stage>/checkpoint.pt and out/<stage>/metrics.jsonl. SIGINT and SIGTERM end the run after the present
    step with a checkpoint, as `Interrupted`.
    Raises `ConfigError` if the checkpoint there was trained with other settings, `InvalidValueError` if it diverges.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = select_device(config.device)
    folder = Path(out) / stage
    if config.init_from is not None:
        _start_from(model, config.init_from)
    model = model.to(device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    model.train()
    frozen = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
    ema = copy.deepcopy(model, dict(frozen)).eval().requires_grad_(False)  # frozen parameters are not copied
    optimizer = _optimizer(model, config)
    start = _resume(folder / CHECKPOINT, model, ema, optimizer, config)
    require_disk_space(folder, _checkpoint_bytes(model))
    compute = torch.compile(loss_fn, dynamic=False) if config.compile else loss_fn
    context = torch.autocast(device.type, torch.bfloat16) if in_bfloat16(config.dtype, device) else nullcontext()
    sums: dict[str, Tensor] = {}
    tracker = start_tracker(config.track, folder, settings or config, resumed=start > 0)
    steps = range(start, config.steps)
    with (
        TrainingProgress(folder / METRICS, stage, start, config.steps, tracker) as progress,
        closing(_batches(batch_fn, steps, config.prefetch)) as batches,
        stop_request(f"{stage} finishes its step and saves") as stop,
    ):
        for step, drawn in zip(steps, batches, strict=True):
            batch = {name: tensor.to(device, non_blocking=True) for name, tensor in drawn.items()}
            torch.manual_seed(int(step_rng(config.seed, step, stream=1).integers(2**62)))
            with context:
                loss, metrics = compute(model, batch)
            rate = learning_rate(config, step)
            norm = _update(model, optimizer, loss, rate, config.grad_clip)
            _update_ema(ema, model, min(config.ema_decay, (1 + step) / (10 + step)))
            _accumulate(sums, {"loss": loss, "grad_norm": norm, **metrics})
            done = step + 1
            progress.advance(done)
            if done % config.log_every == 0 or done == config.steps:
                progress.report(done, {**_drain(sums), "lr": rate})
            if eval_fn is not None and (done == config.steps or (config.eval_every and done % config.eval_every == 0)):
                progress.report(done, eval_fn(ema))
            if done % config.save_every == 0 or done == config.steps or stop.number is not None:
                _require_finite(sums)
                content = {"step": done, "model": _trained(model), "ema": _trained(ema, like=model)}
                save_checkpoint(
                    folder / CHECKPOINT,
                    {**content, "optimizer": optimizer.state_dict(), "config": _settings(config)},
                )
            stop.obey(f"{stage} stopped after step {done} of {config.steps}; the same command continues there")
    return ema.cpu()


def _batches(batch_fn: BatchFn, steps: range, prefetch: int) -> Generator[Batch]:
    """The batch of each step, in order. `prefetch` threads prepare two batches each in advance; 0: this thread."""
    if not prefetch:
        yield from map(batch_fn, steps)
        return
    pool = ThreadPoolExecutor(prefetch, "batches")
    coming, waiting = iter(steps), deque[Future[Batch]]()
    try:
        for _ in steps:
            waiting.extend(pool.submit(batch_fn, step) for step in islice(coming, 2 * prefetch - len(waiting)))
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _trained(model: nn.Module, like: nn.Module | None = None) -> dict[str, Tensor]:
    """The state dict without the parameters that are frozen in `like`, by default in the model itself."""
    states = (like or model).state_dict(keep_vars=True)
    frozen = {name for name, value in states.items() if isinstance(value, nn.Parameter) and not value.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def _checkpoint_bytes(model: nn.Module) -> int:
    """Size of a checkpoint: trained weights, their running mean and two moments."""
    return 4 * sum(value.numel() * value.element_size() for value in _trained(model).values())


def _settings(config: LoopConfig) -> dict[str, float | int]:
    return {name: value for name, value in asdict(config).items() if name in _RESUME_MUST_MATCH}


def _optimizer(model: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """AdamW; only matrices and kernels decay, not gains and biases."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)


def _resume(path: Path, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer, config: LoopConfig) -> int:
    """Restore a checkpoint if there is one. Returns the number of finished steps."""
    if not path.exists():
        return 0
    content = _read_run(path, config)
    try:
        model.load_state_dict(model.state_dict() | content["model"])
        ema.load_state_dict(ema.state_dict() | content["ema"])
        optimizer.load_state_dict(content["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{path} holds another model; choose another folder") from error
    return content["step"]


def _read_run(path: Path, config: LoopConfig) -> dict[str, Any]:
    """Read a checkpoint. Raises `ConfigError` if it was trained with other settings."""
    content = load_checkpoint(path)
    wanted = _settings(config)
    changed = [f"{name} was {was}, is {wanted[name]}" for name, was in content["config"].items() if wanted[name] != was]
    if changed:
        raise ConfigError(f"{path} was trained with other settings ({'; '.join(changed)}); choose another folder")
    return content


def _start_from(model: nn.Module, path: Path) -> None:
    """Load the weights of another run. Raises `ConfigError` if they belong to another model."""
    try:
        model.load_state_dict(load_initial_state(path))
    except RuntimeError as error:
        raise ConfigError(f"init_from={path} holds another model: {str(error).splitlines()[-1].strip()}") from error


def _update(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, grad_clip: float) -> Tensor:
    """Make one optimiser step. Returns the gradient norm before clipping."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), grad_clip if grad_clip > 0 else math.inf)
    optimizer.step()
    return norm


@torch.no_grad()
def _update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    both = zip(ema.parameters(), model.parameters(), strict=True)
    averages, values = zip(*((average, p.detach()) for average, p in both if p.requires_grad), strict=True)
    torch._foreach_lerp_(averages, values, 1 - decay)  # pyright: ignore[reportCallIssue, reportArgumentType]
    for average, value in zip(ema.buffers(), model.buffers(), strict=True):
        average.copy_(value)


def _accumulate(sums: dict[str, Tensor], metrics: Metrics) -> None:
    """Add the metrics of one step on their device, without waiting for a GPU."""
    count = sums.setdefault("_count", torch.zeros(()))
    count += 1
    for name, value in metrics.items():
        value = torch.as_tensor(value).detach().float()
        sums[name] = sums[name] + value if name in sums else value


def _require_finite(sums: dict[str, Tensor]) -> None:
    """Raise `InvalidValueError` if a loss is not finite, so that the weights on disk stay good."""
    if "loss" in sums and not math.isfinite(sums["loss"].item()):
        raise InvalidValueError("the loss is not finite; lower lr or check the data")


def _drain(sums: dict[str, Tensor]) -> dict[str, float]:
    _require_finite(sums)
    count = sums.pop("_count").item()
    means = {name: value.item() / count for name, value in sums.items()}
    sums.clear()
    return means
