"""Settings of `--policy.type=emu_robot`."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from lerobot.configs import FeatureType, NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig, CosineDecayWithWarmupSchedulerConfig
from lerobot.policies.rtc.configuration_rtc import RTCConfig

from emu_robot.data.lerobot_names import camera_names
from emu_robot.errors import ConfigError, UnknownNameError
from emu_robot.planner.config import ReplanConfig
from emu_robot.policy.config import ChunkConfig, GoalMode


@PreTrainedConfig.register_subclass("emu_robot")
@dataclass
class EmuRobotConfig(PreTrainedConfig):
    """Our planner and action head as a LeRobot policy.

    Statistics in the weights, not LeRobot's, normalise pictures, states and actions.
    """

    n_obs_steps: int = 1
    """Observations per decision; always 1."""
    weights: str = "mini"
    """Released name or folder to start from; a checkpoint loaded by `--policy.path` replaces it."""
    planner_camera: str = ""
    """Camera, without `observation.images.`, in whose view subgoals are imagined; empty: the weights' own, or the set's
    first one."""
    chunk_size: int = 16
    """Actions predicted at once."""
    n_action_steps: int = 8
    """Actions of a chunk that are executed [1..chunk_size]."""
    goal: str = GoalMode.AUTO.value
    """Source of subtask and subgoal image, see `emu_robot.policy.config.GoalMode`."""
    seed: int = 0
    """Seed of plans and chunks, together with an episode's task and first observation; at least 0."""
    chunk: ChunkConfig = field(default_factory=ChunkConfig)
    """How a chunk is sampled."""
    replan: ReplanConfig = field(default_factory=ReplanConfig)
    """When the next step is planned."""
    train_planner: bool = True
    """Train the planner, too."""
    planner_weight: float = 0.5
    """Weight of the planner's loss; the head's has 1."""
    use_labels: bool = True
    """Take subtasks from the set's labels where it has them, else find them in its motion."""
    cache_dir: str | None = None
    """Folder for starts and keyframes of the training set; none given puts them beside the set."""
    save_predicted_video: bool = False
    """Let `lerobot-eval` write the imagined subgoals as pred_episode_N.mp4."""
    rtc_config: RTCConfig | None = None
    """Real-time chunking, set by `lerobot-rollout --inference.type=rtc`."""
    state_order: list[int] = field(default_factory=list)
    """Places of the head's state dimensions in the set's, see `robots.order`; set by a training and by `to-lerobot`."""
    action_order: list[int] = field(default_factory=list)
    """The same for actions."""
    camera_features: dict[str, list[str]] = field(default_factory=dict)
    """Our name of a camera -> features that may give its picture, the training set's first; set by `to-lerobot`. Empty:
    names follow from `input_features`."""
    fitted: dict[str, Any] = field(default_factory=dict)
    """See `adapters.Fitted`; set by a training with adapters (`--peft.method_type=LORA`)."""

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
        """Name of each camera, as in the head's modules -> its feature, that of the training set."""
        if self.camera_features:
            return {camera: features[0] for camera, features in self.camera_features.items()}
        features = (self.input_features or {}).items()
        return camera_names(key for key, feature in features if feature.type is FeatureType.VISUAL)

    def cameras_in(self, given: Collection[str]) -> dict[str, str]:
        """Name of each camera -> its feature among those given. Raises `UnknownNameError` for a camera without one."""
        found = {}
        for camera, feature in self.cameras.items():
            accepted = self.camera_features.get(camera, [feature])
            found[camera] = next((one for one in accepted if one in given), "")
            if not found[camera]:
                images = [one for one in given if one.startswith("observation.image")]
                raise UnknownNameError(f"feature of camera {camera}", " or ".join(accepted), images)
        return found

    @property
    def observation_delta_indices(self) -> None:
        return None

    @property
    def action_delta_indices(self) -> None:
        """None: we cut chunks out of the whole episode, because they end with their subtask."""
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
