"""Stage head: behaviour cloning of the action head from a replay buffer, with norm_stats measured on it."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from emu_robot.data.prepare import camera_features
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError, DataError
from emu_robot.models.action_head import ActionHead, HeadConfig, HeadContext, HeadSizes, check_cameras
from emu_robot.models.normalize import NormStats, RelativeActions
from emu_robot.models.weights import load_weights, resolve_weights, save_weights
from emu_robot.robots.spec import RobotLayout
from emu_robot.shared.settings import check_ranges, number
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.training.head_data import Demonstrations, Ints
from emu_robot.training.head_goals import generated_goals, reconstructed_goals
from emu_robot.training.head_sampler import GoalImages, HeadSampler, SamplingConfig, frame_weights
from emu_robot.training.holdout import held_out_episodes
from emu_robot.training.loop import LoopConfig, Metrics, check_loop, fit, select_device
from emu_robot.training.set_check import check_set
from emu_robot.training.warm_start import check_one_start, idle_with_start, warm_start

LEAST_TEXT = 32
"""Least number of word ids that a head can read, also with shorter texts in its data."""
SPARE_TEXT = 8
"""Word ids that a head can read beyond the longest text in its data: made-up words may be spelled longer."""


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


@dataclass(frozen=True, kw_only=True)
class HeadTraining:
    """Settings of the training of a head, independent of the data."""

    generated_goals: int = number(0, 0)
    """Number of subgoals that the planner in `weights` draws beforehand, kept in out/head."""
    holdout: float = number(0.03, above=0, below=1)
    """Share of the episodes kept for validation."""
    keypose_weight: float = number(0.5, 0)
    """Weight of the loss of coming keyposes; the loss of the actions has weight 1."""
    remaining_weight: float = number(0.1, 0)
    """Weight of the loss of the steps to the keyposes."""
    progress_weight: float = number(0.2, 0)
    """Weight of the loss of the progress through the subtask."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Choice of examples."""
    loop: LoopConfig = field(default_factory=_loop)
    """Optimisation."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        if not self.generated_goals:
            return {"sampling.generated": "generated_goals=0 draws none"}
        return {} if self.sampling.generated else {"generated_goals": "sampling.generated=0 shows none"}


@dataclass(frozen=True, kw_only=True)
class HeadTrainConfig(HeadTraining):
    """Settings of stage head. Dimensions, words and the size of the images follow from the data."""

    data: Path = Path("outputs/data/train")
    """Replay buffer to learn from."""
    out: Path = Path("outputs/train")
    """Run folder: checkpoints and metrics, in its folder `head`."""
    weights: Path = Path("outputs/weights/mini")
    """Folder that receives the head. Its text.json is used and, for reconstructed goals, its image tokenizer."""
    start: str = ""
    """Released name or weights folder with a head to start from, as far as it fits. It fixes the sizes. Empty:
    untrained."""
    cameras: list[str] = field(default_factory=lambda: ["front", "wrist"])
    """Cameras of the head, all different. The first one is the planner's camera, which shows the goals."""
    model: HeadSizes = field(default_factory=HeadSizes)
    """Sizes of a head that starts untrained."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cameras(self.cameras)
        check_one_start(self.start, self.loop)

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        return super().without_effect() | idle_with_start("model", self.start)


def train(config: HeadTrainConfig) -> Path:
    """Run the stage, or resume an interrupted run. Returns the weights folder with the head."""
    check_loop(config.loop, config.out / "head")
    torch.manual_seed(config.loop.seed)
    device = select_device(config.loop.device)
    buffer, text = ReplayBuffer.open(config.data), TextTokenizer.load(config.weights)
    check_set(buffer, config.cameras, None, config.holdout)
    started = load_weights(resolve_weights(config.start), "head") if config.start else None
    data, layout = Demonstrations.load(buffer, config.cameras), buffer.layout
    shape = head_config(config, started.settings(HeadConfig) if started else config.model, data, layout, text)
    model = ActionHead(shape)
    if started is not None:
        fresh = warm_start(model, started, (TextTokenizer.load(resolve_weights(config.start)), text))
        print(f"head: {len(fresh)} of its parameters start untrained{': ' if fresh else ''}{', '.join(fresh)}")
    train_rows, holdout_rows = split_rows(data, config.holdout)
    relative = RelativeActions(shape.relative_dims)
    stats = data.norm_stats(shape.action_horizon, relative, shape.keyposes, data.frame_M[train_rows])
    for rows in (train_rows, holdout_rows):
        frame_weights(data, rows, config.sampling)  # before the goals are drawn, which may take long
    goals = _goals(config, data, device)

    def sampler(rows: Ints, seed: int) -> HeadSampler:
        return HeadSampler(
            data,
            rows,
            stats,
            shape,
            config.sampling,
            text.encode,
            goals=goals,
            batch_size=config.loop.batch_size,
            seed=seed,
        )

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
    features = camera_features(buffer.path)
    extra = {
        "norm_stats": stats.to_dict(),
        "metrics": metrics,
        "layout": asdict(layout),
        "control_hz": buffer.metadata[0]["fps"],
        "camera_features": {ours: theirs for ours, theirs in features.items() if ours in config.cameras},
    }
    save_weights(config.weights, "head", head.cpu().state_dict(), shape, half=True, extra=extra)
    return config.weights


def head_config(
    config: HeadTrainConfig, sizes: HeadSizes, data: Demonstrations, layout: RobotLayout, text: TextTokenizer
) -> HeadConfig:
    """A head of these sizes for this data. Raises `ConfigError` unless all images are square and of one size."""
    shapes = {tuple(data.images[camera].shape[1:3]) for camera in config.cameras}
    sides = {side for shape in shapes for side in shape}
    if len(sides) > 1:
        raise ConfigError(f"images of {', '.join(config.cameras)} are {sorted(shapes)}, must be square and of one size")
    longest = text.longest({*data.segments.text_K, *data.segments.instruction_K})
    return HeadConfig(
        **{size.name: getattr(sizes, size.name) for size in fields(HeadSizes)},
        cameras=config.cameras,
        image_size=sides.pop(),
        state_dim=len(layout.state_names),
        action_dim=len(layout.action_names),
        relative_dims=layout.relative_dims,
        text_vocabulary=text.size + 1,
        text_length=max(sizes.text_length if isinstance(sizes, HeadConfig) else LEAST_TEXT, longest + SPARE_TEXT),
    )


def _goals(config: HeadTrainConfig, data: Demonstrations, device: torch.device) -> GoalImages:
    """The goals besides camera images that `config` selects."""
    goals, sampling = GoalImages(), config.sampling
    if sampling.reconstructed:
        goals.reconstructed = reconstructed_goals(data, config.weights, device)
    if config.generated_goals and sampling.generated:
        path = config.out / "head" / "generated_goals.npz"
        goals.generated = generated_goals(data, config.weights, path, config.generated_goals, config.loop.seed)
    return goals


def head_loss(model: nn.Module, batch: dict[str, Tensor], config: HeadTraining) -> tuple[Tensor, Metrics]:
    """Flow matching, plus auxiliary predictions that guide attention: coming keyposes, steps to them, progress."""
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
    """Errors of sampled chunks on held-out episodes, in physical units, separate for examples with and without a goal.

    action_mae and keypose_mae cover all dimensions but the grippers; gripper_accuracy (if any gripper); progress_mae.
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
    """Image rows within completed subtasks, for training and held out, see `held_out_episodes`. Of an episode with
    interventions only these. Raises `DataError` if there are none on one side."""
    rows = np.flatnonzero((data.segment_M >= 0) & (data.taught_end_N[data.frame_M] >= 0))
    held = held_out_episodes(np.bincount(data.segments.episode_K).tolist(), holdout)
    held_out = held[data.segments.episode_K[data.segment_M[rows]]]
    if holdout > 0 and (held_out.all() or not held_out.any()):
        side = "training" if held_out.all() else "held-out"
        raise DataError(
            f"no {side} episode has an intervention within a completed subtask; record more, or another holdout="
        )
    return rows[~held_out], rows[held_out]
