"""What `--policy.type=emu_robot` is configured with."""

from dataclasses import dataclass, field
from typing import Any

from lerobot.configs import FeatureType, NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig, CosineDecayWithWarmupSchedulerConfig
from lerobot.policies.rtc.configuration_rtc import RTCConfig

from emu_robot.data.lerobot_names import camera_names
from emu_robot.errors import ConfigError
from emu_robot.planner.config import ReplanConfig
from emu_robot.policy.config import ChunkConfig, GoalMode


@PreTrainedConfig.register_subclass("emu_robot")
@dataclass
class EmuRobotConfig(PreTrainedConfig):
    """Our planner and action head as a LeRobot policy.

    weights: released name or folder to start from; a checkpoint loaded by `--policy.path` takes its place.
    planner_camera: name of the camera, without `observation.images.`, in whose view subgoals are imagined; none given
    takes the weights' own, or the set's first one.
    chunk_size: actions predicted, n_action_steps: of these executed. goal: see `emu_robot.policy.config.GoalMode`.
    seed: what plans and chunks draw from, together with an episode's task and first observation.
    chunk: how a chunk is sampled; replan: when the next step is planned.
    train_planner: adapt the planner, too, with the weight `planner_weight` beside the head's loss.
    use_labels: take subtasks from the set where it has them, else find them in its motion.
    cache_dir: where starts and keyframes of the training set are kept; none given puts them beside the set.
    save_predicted_video: `lerobot-eval` writes the imagined subgoals as pred_episode_N.mp4.
    rtc_config: real-time chunking, set by `lerobot-rollout --inference.type=rtc`.
    state_order, action_order: where the head's dimensions stand in the set's, as `robots.order` has it; filled in by a
    training and by `to-lerobot`, empty where nothing moves. Pictures, states and actions are normalised by statistics
    in the weights, not by LeRobot's.
    fitted: see `adapters.Fitted`, filled in by a training with adapters (`--peft.method_type=LORA`).
    """

    n_obs_steps: int = 1
    weights: str = "mini"
    planner_camera: str = ""
    chunk_size: int = 16
    n_action_steps: int = 8
    goal: str = GoalMode.PLANNER.value
    seed: int = 0
    chunk: ChunkConfig = field(default_factory=ChunkConfig)
    replan: ReplanConfig = field(default_factory=ReplanConfig)
    train_planner: bool = True
    planner_weight: float = 0.5
    use_labels: bool = True
    cache_dir: str | None = None
    save_predicted_video: bool = False
    rtc_config: RTCConfig | None = None
    state_order: list[int] = field(default_factory=list)
    action_order: list[int] = field(default_factory=list)
    fitted: dict[str, Any] = field(default_factory=dict)

    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY)
    )
    optimizer_lr: float = 1e-3
    optimizer_weight_decay: float = 0.02
    optimizer_grad_clip_norm: float = 1.0
    scheduler_warmup_steps: int = 100
    scheduler_decay_steps: int = 30_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n_action_steps <= self.chunk_size:
            raise ConfigError(f"n_action_steps is {self.n_action_steps}, must lie in 1..{self.chunk_size} (chunk_size)")
        known = [mode.value for mode in GoalMode if not mode.needs_source]
        if self.goal not in known:
            raise ConfigError(f"goal is {self.goal!r}, must be one of {', '.join(known)}")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, must not be negative")

    def validate_features(self) -> None:
        """Raise `ConfigError` unless there are a camera, a state and an action."""
        if not self.image_features:
            raise ConfigError("the policy needs at least one camera among its input features")
        for name, feature in (("observation.state", self.robot_state_feature), ("action", self.action_feature)):
            if feature is None:
                raise ConfigError(f"the policy needs the feature {name}")

    @property
    def cameras(self) -> dict[str, str]:
        """Name of each camera, as the head's modules carry it -> its feature."""
        features = (self.input_features or {}).items()
        return camera_names(key for key, feature in features if feature.type is FeatureType.VISUAL)

    @property
    def observation_delta_indices(self) -> None:
        return None

    @property
    def action_delta_indices(self) -> None:
        """None: chunks are cut out of the whole episode, as a subtask's end is where they have to hold."""
        return None

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> AdamWConfig:
        return AdamWConfig(
            lr=self.optimizer_lr,
            betas=(0.9, 0.98),
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        return CosineDecayWithWarmupSchedulerConfig(
            peak_lr=self.optimizer_lr,
            decay_lr=0.0,
            num_warmup_steps=self.scheduler_warmup_steps,
            num_decay_steps=self.scheduler_decay_steps,
        )
