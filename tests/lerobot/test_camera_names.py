"""Cameras under their names in the training set, without rename_map: `lerobot-eval` and our policy agree on them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.configs.default import EvalConfig
from lerobot.configs.eval import EvalPipelineConfig
from lerobot.envs import EnvConfig
from lerobot.scripts.lerobot_eval import eval_main
from lerobot.utils.constants import ACTION, OBS_STATE
from tiny_weights import SIZE, write_weights

from emu_robot.data.lerobot_names import accepted_features
from emu_robot.errors import UnknownNameError
from emu_robot.lerobot.checkpoint import to_lerobot
from emu_robot.lerobot.configuration_emu_robot import EmuRobotConfig
from emu_robot.models.weights import load_weights, save_weights
from emu_robot.robots.spec import RobotLayout

NAMES = ("x", "y", "z", "gripper")
LAYOUT = RobotLayout(state_names=NAMES, action_names=NAMES, n_grippers=1, relative_dims=0)


class TinyWorld(gym.Env):
    """Four frames of noise. `camera`: name of its picture; empty for a picture without a name."""

    metadata: dict[str, Any] = {"render_fps": 10}  # noqa: RUF012
    _max_episode_steps = 4
    task = task_description = "put it away"

    def __init__(self, camera: str) -> None:
        picture = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        pixels = gym.spaces.Dict({camera: picture}) if camera else picture
        self.observation_space = gym.spaces.Dict({"pixels": pixels, "agent_pos": gym.spaces.Box(-1, 1, (4,))})
        self.action_space = gym.spaces.Box(-1, 1, (4,))
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {"is_success": False}

    def step(self, action: Any) -> Any:
        self.t += 1
        done = self.t == self._max_episode_steps
        return self.observation_space.sample(), 0.0, done, False, {"is_success": done}

    def render(self) -> Any:
        return np.zeros((SIZE, SIZE, 3), np.uint8)


@EnvConfig.register_subclass("tiny_world")
@dataclass
class TinyWorldConfig(EnvConfig):
    """The tiny world under `lerobot-eval`."""

    task: str | None = "put it away"
    fps: int = 10
    camera: str = ""
    features: dict[str, PolicyFeature] = field(default_factory=dict)

    def __post_init__(self) -> None:
        picture = PolicyFeature(FeatureType.VISUAL, (SIZE, SIZE, 3))
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, (4,)),
            "agent_pos": PolicyFeature(FeatureType.STATE, (4,)),
            "pixels": picture,
        }
        feature = f"observation.images.{self.camera}" if self.camera else "observation.image"
        self.features_map = {ACTION: ACTION, "agent_pos": OBS_STATE, "pixels": feature}

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        return {}

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, Any]]:
        return {self.type: {0: SyncVectorEnv([lambda: TinyWorld(self.camera)] * n_envs)}}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """Weights whose camera front was observation.image in their training set, as in Meta-World's sets."""
    folder = write_weights(tmp_path_factory.mktemp("weights"), cameras=("front",), layout=LAYOUT, control_hz=10)
    head = load_weights(folder, "head")
    extra = {**head.extra, "camera_features": {"front": "observation.image"}}
    save_weights(folder, "head", head.state, head.config, extra=extra)
    return to_lerobot(folder, tmp_path_factory.mktemp("checkpoint") / "policy")


@pytest.mark.parametrize("camera", ["", "image", "front"])
def test_lerobot_eval_finds_the_camera_without_a_rename_map(checkpoint, tmp_path, camera):
    policy = PreTrainedConfig.from_pretrained(checkpoint)
    policy.pretrained_path, policy.device = checkpoint, "cpu"
    evaluation = EvalConfig(n_episodes=1, batch_size=1, use_async_envs=False)
    config = object.__new__(EvalPipelineConfig)  # its own constructor reads the command line
    settings = {"env": TinyWorldConfig(camera=camera), "policy": policy, "eval": evaluation, "output_dir": tmp_path}
    defaults = {"seed": 0, "job_name": "tiny", "rename_map": {}, "trust_remote_code": False}
    for name, value in (settings | defaults).items():
        setattr(config, name, value)
    eval_main(config)
    assert json.loads((tmp_path / "eval_info.json").read_text())["overall"]["pc_success"] == 100.0


def test_the_checkpoint_keeps_the_sets_names(checkpoint):
    config = EmuRobotConfig.from_pretrained(checkpoint)
    assert isinstance(config, EmuRobotConfig) and config.cameras == {"front": "observation.image"}
    assert config.cameras_in(["observation.state", "observation.images.image"]) == {"front": "observation.images.image"}
    with pytest.raises(
        UnknownNameError, match=r"camera front 'observation.image or .*'; known: observation.images.top"
    ):
        config.cameras_in(["observation.images.top"])


def test_a_name_belongs_to_the_camera_that_has_it_in_the_set():
    swapped = {"front": "observation.images.wrist", "wrist": "observation.images.front"}
    assert accepted_features(swapped) == {name: [feature] for name, feature in swapped.items()}
    renamed = accepted_features({"front": "observation.image", "wrist": "observation.images.image"})
    assert renamed["front"] == ["observation.image", "observation.images.front"]
    assert renamed["wrist"] == ["observation.images.image", "observation.images.wrist"]
