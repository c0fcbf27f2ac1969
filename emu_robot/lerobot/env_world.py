"""A LeRobot environment as a world: the calls of `lerobot.scripts.lerobot_eval.rollout`, one episode at a time.

Pictures, state, action, time limit and success are LeRobot's, after its processors of the environment.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv
from lerobot.envs import preprocess_observation
from lerobot.envs.utils import NEW_ROLLOUT_OPTION
from lerobot.utils.constants import ACTION

from emu_robot.core import Floats32, Observation, Transition
from emu_robot.environments.contract import EnvironmentSpec
from emu_robot.errors import ShapeError
from emu_robot.lerobot.env_observation import NO_WORDS, to_observation
from emu_robot.lerobot.env_tasks import LeRobotTask


class LeRobotWorld:
    """One task. Where LeRobot has a list of initial states, an episode's number chooses from it."""

    def __init__(self, task: LeRobotTask, env: SyncVectorEnv, spec: EnvironmentSpec) -> None:
        """env: a vector environment of one, which the world closes."""
        self.spec, self.task_name = spec, task.name
        self._env = env
        self._before, self._after = task.config.get_env_processors()

    @property
    def instruction(self) -> str:
        """LeRobot's description of the task, or its name for it; `NO_WORDS` without either."""
        return described(self._env) or NO_WORDS

    @property
    def max_steps(self) -> int:
        """The environment's own limit."""
        return int(self._env.call("_max_episode_steps")[0])

    def reset(self, seed: int) -> Observation:
        return self.reset_numbered(seed, seed)

    def reset_numbered(self, seed: int, number: int) -> Observation:
        for env in getattr(self._env, "envs", ()):
            if hasattr(env.unwrapped, "init_state_id"):
                env.unwrapped.init_state_id = number
        raw, _ = self._env.reset(seed=[seed], options={NEW_ROLLOUT_OPTION: True})
        return self._observation(raw)

    def step(self, action: Floats32) -> Transition:
        n_actions = len(self.spec.layout.action_names)
        if action.shape != (n_actions,):
            raise ShapeError("action", action.shape, (n_actions,))
        processed = self._after({ACTION: torch.from_numpy(np.asarray(action))[None]})[ACTION]
        raw, reward, terminated, truncated, info = self._env.step(processed.to("cpu").numpy())
        has_ended = bool(terminated[0] or truncated[0])
        if has_ended and "final_obs" in info:  # the environment has begun another episode
            raw = _batched(info["final_obs"][0])
        return Transition(
            observation=self._observation(raw),
            success=_success(info),
            subtasks_done=(),
            reward=float(reward[0]),
            ended=has_ended,
        )

    def close(self) -> None:
        self._env.close()

    def _observation(self, raw: dict[str, Any]) -> Observation:
        batch: dict[str, Any] = preprocess_observation(raw)
        batch["task"] = [described(self._env)]
        return to_observation(self._before(batch))


def described(env: SyncVectorEnv) -> str:
    """The words that `rollout` gives a policy: `task_description`, else `task`, else none."""
    for name in ("task_description", "task"):
        try:
            return str(env.call(name)[0])
        except (AttributeError, NotImplementedError):
            continue
    return ""


def _success(info: Mapping[str, Any]) -> bool:
    """The success that `rollout` reads after a step: that of the ended episode, else the present one."""
    return bool(np.any(info.get("final_info", info).get("is_success", False)))


def _batched(value: Any) -> Any:
    """Add the axis of the environments to every array."""
    if isinstance(value, Mapping):
        return {name: _batched(inner) for name, inner in value.items()}
    return np.asarray(value)[None]
