"""Stage "head": behaviour cloning of the action head from a replay buffer, with norm_stats measured on it."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError, DataError
from emu_robot.models.action_head import ActionHead, HeadConfig, HeadContext
from emu_robot.models.normalize import NormStats, RelativeActions
from emu_robot.models.weights import load_weights, resolve_weights, save_weights
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.training.head_data import Demonstrations, Ints
from emu_robot.training.head_goals import generated_goals, reconstructed_goals
from emu_robot.training.head_sampler import GoalImages, HeadSampler, SamplingConfig
from emu_robot.training.loop import LoopConfig, Metrics, fit, select_device
from emu_robot.training.warm_start import warm_start


def _loop() -> LoopConfig:
    return LoopConfig(
        steps=4500,
        batch_size=32,
        lr=1e-3,
        warmup_steps=100,
        weight_decay=0.02,
        ema_decay=0.998,
        threads=1,
        channels_last=True,
        eval_every=1000,
    )


@dataclass(kw_only=True)
class HeadTrainConfig:
    """Settings of stage head.

    start: released name or weights folder whose head to start from, as far as it fits; its sizes hold.
    data: replay buffer. out: run folder (checkpoints, metrics). weights: folder the trained head is added to; its
    text.json and, for reconstructed goals, its image tokenizer are used.
    generated_goals: how many subgoals to have drawn beforehand by the planner in `weights`, kept in out/head.
    holdout: share of the episodes kept for validation. Loss weights: keypose, remaining, progress against flow = 1.
    """

    data: Path = Path("outputs/data/train")
    out: Path = Path("outputs/train")
    weights: Path = Path("outputs/weights/mini")
    start: str = ""
    generated_goals: int = 0
    holdout: float = 0.03
    keypose_weight: float = 0.5
    remaining_weight: float = 0.1
    progress_weight: float = 0.2
    model: HeadConfig = field(default_factory=HeadConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    loop: LoopConfig = field(default_factory=_loop)

    def __post_init__(self) -> None:
        if not 0 < self.holdout < 1:
            raise ConfigError(f"holdout is {self.holdout}, must lie between 0 and 1")
        if self.generated_goals < 0:
            raise ConfigError(f"generated_goals is {self.generated_goals}, must not be negative")


def train(config: HeadTrainConfig) -> Path:
    """Run the stage, resuming what was cut off; returns the weights folder with the head in it."""
    torch.manual_seed(config.loop.seed)
    device = select_device(config.loop.device)
    buffer, text = ReplayBuffer.open(config.data), TextTokenizer.load(config.weights)
    started = load_weights(resolve_weights(config.start), "head") if config.start else None
    if started is not None:
        config.model = replace(HeadConfig(**started.config), cameras=config.model.cameras)
    data, layout = Demonstrations.load(buffer, config.model.cameras), buffer.layout
    sentences = {*data.segments.text_K, *data.segments.instruction_K}
    config.model.text_length = max(config.model.text_length, *(len(text.encode(words)) for words in sentences))
    config.model.text_vocabulary = text.size + 1
    config.model.relative_dims = layout.relative_dims
    config.model.state_dim, config.model.action_dim = len(layout.state_names), len(layout.action_names)
    train_rows, holdout_rows = split_rows(data, config.holdout)
    relative = RelativeActions(config.model.relative_dims)
    stats = data.norm_stats(config.model.action_horizon, relative, config.model.keyposes, data.frame_M[train_rows])
    goals = GoalImages()
    if config.sampling.reconstructed:
        goals.reconstructed = reconstructed_goals(data, config.weights, device)
    if config.generated_goals and config.sampling.generated:
        path = config.out / "head" / "generated_goals.npz"
        goals.generated = generated_goals(data, config.weights, path, config.generated_goals, config.loop.seed)

    def sampler(rows: Ints, seed: int) -> HeadSampler:
        return HeadSampler(
            data,
            rows,
            stats,
            config.model,
            config.sampling,
            text.encode,
            goals=goals,
            batch_size=config.loop.batch_size,
            seed=seed,
        )

    model = ActionHead(config.model)
    if started is not None:
        anew = warm_start(model, started)
        print(f"head: {len(anew)} of its parameters start anew{': ' if anew else ''}{', '.join(anew)}")
    validation = sampler(holdout_rows, config.loop.seed + 1)
    head = fit(
        model,
        sampler(train_rows, config.loop.seed),
        lambda model, batch: head_loss(model, batch, config),
        config.loop,
        config.out,
        "head",
        lambda model: validate(model, validation, stats, layout.n_grippers),
        settings=config,
    )
    metrics = validate(head.to(device), validation, stats, layout.n_grippers, batches=24)
    extra = {
        "norm_stats": stats.to_dict(),
        "metrics": metrics,
        "layout": asdict(layout),
        "control_hz": buffer.metadata[0]["fps"],
    }
    save_weights(config.weights, "head", head.cpu().state_dict(), config.model, half=True, extra=extra)
    return config.weights


def head_loss(model: nn.Module, batch: dict[str, Tensor], config: HeadTrainConfig) -> tuple[Tensor, Metrics]:
    """Flow matching, plus the predictions that make the head look: coming keyposes, steps to them, progress."""
    context, predicted_BND = model(batch)
    flow = (predicted_BND - batch["actions"].flatten(1)[:, None]).square().mean()
    keypose = nn.functional.smooth_l1_loss(context.keypose_BPS, batch["keyposes"], beta=0.1)
    remaining = nn.functional.l1_loss(context.remaining_BP, batch["remaining"])
    off_B = nn.functional.binary_cross_entropy_with_logits(context.progress_B, batch["progress"], reduction="none")
    progress = (off_B * batch["has_progress"]).sum() / batch["has_progress"].sum().clamp_min(1)
    loss = flow + config.keypose_weight * keypose + config.remaining_weight * remaining
    metrics: Metrics = {"flow": flow, "keypose": keypose, "remaining": remaining, "progress": progress}
    return loss + config.progress_weight * progress, metrics


@torch.no_grad()
def validate(
    model: nn.Module, sampler: HeadSampler, stats: NormStats, n_grippers: int, batches: int = 8
) -> dict[str, float]:
    """Errors of sampled chunks on held-out episodes, in physical units, apart for examples with and without a goal.

    action_mae, keypose_mae over all dimensions but the grippers, gripper_accuracy if there are any, progress_mae.
    """
    head = model.eval()
    assert isinstance(head, ActionHead)
    device = next(head.parameters()).device
    columns: dict[str, list[Tensor]] = {}
    for step in range(batches):
        batch = {name: tensor.to(device) for name, tensor in sampler(step).items()}
        context = head.encode_batch(batch)
        chunk = head.sample(context, batch["noise"][:, 0].view_as(batch["actions"]))
        for name, error_B in _errors(context, chunk, batch, stats, n_grippers).items():
            columns.setdefault(name, []).append(error_B)
    errors = {name: torch.cat(values) for name, values in columns.items()}
    has_goal = errors.pop("has_goal").bool()
    groups = {"": torch.ones_like(has_goal), "_goal": has_goal, "_no_goal": ~has_goal}
    return {
        f"val_{name}{suffix}": float(values[members].nanmean())
        for name, values in errors.items()
        for suffix, members in groups.items()
        if members.any()
    }


def _errors(
    context: HeadContext, chunk_BTA: Tensor, batch: dict[str, Tensor], stats: NormStats, n_grippers: int
) -> dict[str, Tensor]:
    device = chunk_BTA.device
    n_arm, n_states = chunk_BTA.shape[-1] - n_grippers, batch["state"].shape[-1] - n_grippers
    action_std = torch.from_numpy(stats.actions.std).to(device)
    action_mean = torch.from_numpy(stats.actions.mean).to(device)
    keypose_std = torch.from_numpy(stats.keyposes.std).to(device)
    action_off = ((chunk_BTA - batch["actions"]) * action_std).abs()[..., :n_arm]
    keypose_off = ((context.keypose_BPS - batch["keyposes"]) * keypose_std).abs()[..., :n_states]
    half_open = torch.from_numpy((stats.action_low + stats.action_high) / 2).to(device)[n_arm:]
    closed = [(x * action_std + action_mean)[..., n_arm:] < half_open for x in (chunk_BTA, batch["actions"])]
    progress_off = (context.progress_B.sigmoid() - batch["progress"]).abs()
    return {
        "has_goal": batch["has_goal"],
        "action_mae": action_off.mean((1, 2)),
        **({"gripper_accuracy": (closed[0] == closed[1]).float().mean((1, 2))} if n_grippers else {}),
        "keypose_mae": keypose_off[:, 0].mean(1),
        "keypose2_mae": keypose_off[:, -1].mean(1),
        "progress_mae": torch.where(batch["has_progress"] > 0, progress_off, torch.nan),
    }


def split_rows(data: Demonstrations, holdout: float) -> tuple[Ints, Ints]:
    """Image rows within completed subtasks, split by episode; every 1/holdout-th episode is held out."""
    rows = np.flatnonzero(data.segment_M >= 0)
    episode = data.segments.episode_K[data.segment_M[rows]]
    period = max(round(1 / holdout), 2)
    held_out = episode % period == period - 1
    if held_out.all() or not held_out.any():
        raise DataError(f"{len(np.unique(episode))} episodes are too few to hold out a share of {holdout}")
    return rows[~held_out], rows[held_out]
