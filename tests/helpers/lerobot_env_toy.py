"""An environment plugin of LeRobot: a point on a line, in two tasks, with processors of its own.

The task "near" has a list of initial states and is reset at the next step after an episode, as LIBERO. The task "far"
is reset at once, as PushT: the last view comes in `info`. An episode ends with success where the point meets its mark,
without it where the point leaves the line.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs import EnvConfig
from lerobot.processor import ActionProcessorStep, ObservationProcessorStep, PolicyProcessorPipeline

WORDS = {"near": "go to the near mark", "far": "go to the far mark"}
STARTS = (-0.1, 0.0, 0.1)


class ToyEnv(gym.Env):
    """The state is the position, the mark, and the number of steps; the picture's left column shows the position."""

    metadata: ClassVar[dict[str, Any]] = {"render_fps": 10}
    observation_space = gym.spaces.Dict(
        {
            "pixels": gym.spaces.Dict({"top": gym.spaces.Box(0, 255, (32, 48, 3), np.uint8)}),
            "agent_pos": gym.spaces.Box(-np.inf, np.inf, (3,), np.float64),
        }
    )
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    alive = 0

    def __init__(self, task: str, episode_length: int) -> None:
        self.task, self.task_description, self._max_episode_steps = task, WORDS[task], episode_length
        self.init_state_id = 0
        ToyEnv.alive += 1

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._x = STARTS[self.init_state_id % len(STARTS)] if self.task == "near" else 0.0
        self.init_state_id += 1
        reach = 0.5 if self.task == "near" else 0.9
        self._mark, self._n = self.np_random.uniform(-reach, reach), 0
        return self._seen(), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self._x, self._n = self._x + float(action[0]), self._n + 1
        has_won = abs(self._x - self._mark) < 0.06
        return self._seen(), -abs(self._x - self._mark), has_won or abs(self._x) > 1, False, {"is_success": has_won}

    def close(self) -> None:
        ToyEnv.alive -= 1

    def _seen(self) -> dict[str, Any]:
        image = np.zeros((32, 48, 3), np.uint8)
        image[:, 0] = np.clip(127 + 100 * self._x, 0, 255)
        return {"pixels": {"top": image}, "agent_pos": np.array([self._x, self._mark, self._n])}


class Mirror(ObservationProcessorStep):
    """Turns pictures round, as for LIBERO."""

    def observation(self, observation: Any) -> Any:
        return {
            key: value.flip(-1) if key.startswith("observation.images.") else value
            for key, value in observation.items()
        }

    def transform_features(self, features: Any) -> Any:
        return features


class Halve(ActionProcessorStep):
    """Halves actions."""

    def action(self, action: Any) -> Any:
        assert isinstance(action, torch.Tensor)
        return action / 2

    def transform_features(self, features: Any) -> Any:
        return features


@EnvConfig.register_subclass("toy_line")
@dataclass
class ToyLine(EnvConfig):
    """Tasks joined by commas."""

    task: str | None = "near,far"
    fps: int = 10
    episode_length: int = 40
    features: dict[str, PolicyFeature] = field(
        default_factory=lambda: {
            "action": PolicyFeature(FeatureType.ACTION, (2,)),
            "agent_pos": PolicyFeature(FeatureType.STATE, (3,)),
            "pixels/top": PolicyFeature(FeatureType.VISUAL, (32, 48, 3)),
        }
    )
    features_map: dict[str, str] = field(
        default_factory=lambda: {
            "action": "action",
            "agent_pos": "observation.state",
            "pixels/top": "observation.images.top",
        }
    )

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        return {"episode_length": self.episode_length}

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, Any]]:
        make = [partial(ToyEnv, task, **self.gym_kwargs) for task in (self.task or "").split(",")]
        modes = {"near": AutoresetMode.NEXT_STEP, "far": AutoresetMode.SAME_STEP}
        envs = [SyncVectorEnv([one] * n_envs, autoreset_mode=modes[one.args[0]]) for one in make]
        return {"line": dict(enumerate(envs))}

    def get_env_processors(self) -> Any:
        return PolicyProcessorPipeline(steps=[Mirror()]), PolicyProcessorPipeline(steps=[Halve()])
