"""The tabletop as a Gymnasium environment with LeRobot's observation names."""

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from emu_robot.core import Image, Observation
from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_robot.robots.spec import PANDA
from emu_sim.environment import STEPS_PER_SUBTASK, TabletopEnvironment
from emu_sim.kinematics import joint_target
from emu_sim.tasks import most_subtasks

ACTION_MODES = ("joint", "ee_delta")
EE_STEP = 0.05  # [m] of a full-scale end-effector action, as LIBERO's OSC_POSE has it


class TabletopEnv(gym.Env[dict[str, Any], NDArray[np.float32]]):
    """`gymnasium.make("emu_sim/Tabletop-v0", families=["long"], split="heldout")`.

    Observation: {"pixels": {camera: (128, 128, 3) uint8}, "agent_pos": (8,) float32}; agent_pos holds 7 joint
    positions [rad] and the gripper's opening in [0, 1].
    Action, "joint": (8,) joint position targets [rad] and gripper opening in [0, 1], 1 open;
    "ee_delta": (4,) in [-1, 1]: x, y, z steps of the fingertips in units of 0.05 m and the gripper (-1 shut, 1 open).
    Reward: 1 on success, else 0; success terminates, `max_steps` control ticks (at 20 Hz) truncate.
    info: is_success, instruction, subtask (the true next one, None at the end), subtasks_done.
    reset(seed=...) samples task and layout from the seed alone; `seed_offset` (not negative) is added to every seed.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": PANDA.control_hz}

    def __init__(
        self,
        families: Sequence[str] = ("single",),
        split: str = "seen",
        action_mode: str = "joint",
        render_mode: str | None = "rgb_array",
        render_size: int = 256,
        seed_offset: int = 0,
    ) -> None:
        if action_mode not in ACTION_MODES:
            raise UnknownNameError("action mode", action_mode, ACTION_MODES)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UnknownNameError("render mode", render_mode, self.metadata["render_modes"])
        if seed_offset < 0:
            raise InvalidValueError(f"seed_offset is {seed_offset}; it must not be negative")
        self.render_mode = render_mode
        self._seed_offset = seed_offset
        self._render_size = render_size
        self._action_mode = action_mode
        self._environment = TabletopEnvironment(families, split)
        self._steps = 0
        size = PANDA.image_size
        image = spaces.Box(0, 255, (size, size, 3), np.uint8)
        lower = np.array([*PANDA.joint_lower, 0.0], np.float32)
        upper = np.array([*PANDA.joint_upper, 1.0], np.float32)
        # The joints may be pushed a little past their soft limits.
        slack = np.array([*[0.1] * 7, 0.0], np.float32)
        self.observation_space = spaces.Dict(
            {
                "pixels": spaces.Dict(dict.fromkeys(PANDA.cameras, image)),
                "agent_pos": spaces.Box(lower - slack, upper + slack, dtype=np.float32),
            }
        )
        self.action_space = (
            spaces.Box(lower, upper, dtype=np.float32)
            if action_mode == "joint"
            else spaces.Box(-1.0, 1.0, (4,), np.float32)
        )

    @property
    def task_description(self) -> str:
        """The instruction, under LeRobot's name."""
        return self._environment.instruction

    @property
    def task(self) -> str:
        """The family of the present task."""
        return self._environment.task.family

    @property
    def _max_episode_steps(self) -> int:
        """Control ticks of the longest possible task, under LeRobot's name."""
        return STEPS_PER_SUBTASK * most_subtasks(self._environment.families)

    @property
    def environment(self) -> TabletopEnvironment:
        """The wrapped environment, with ground truth, experts and oracle."""
        return self._environment

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self._steps = 0
        episode_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        return _to_gym(self._environment.reset(self._seed_offset + episode_seed)), self._info(success=False)

    def step(self, action: NDArray[np.float32]) -> tuple[dict, float, bool, bool, dict]:
        transition = self._environment.step(self._joint_action(np.asarray(action, dtype=np.float64)))
        self._steps += 1
        success = transition.success
        truncated = not success and self._steps >= self._environment.max_steps
        return _to_gym(transition.observation), float(success), success, truncated, self._info(success)

    def _joint_action(self, action: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._action_mode == "joint":
            return action
        if action.shape != (4,) or not np.isfinite(action).all():
            raise InvalidValueError(f"ee_delta action must be 4 finite numbers, got {action.tolist()}")
        x, y, z, gripper = np.clip(action, -1.0, 1.0)
        target = joint_target(self._environment.world, EE_STEP * np.array([x, y, z]))
        return np.append(target, 0.5 * (gripper + 1.0))

    def _info(self, success: bool) -> dict[str, Any]:
        return {
            "is_success": success,
            "instruction": self._environment.instruction,
            "subtask": self._environment.current_subtask,
            "subtasks_done": self._environment.subtask_index,
        }

    def render(self) -> Image | None:
        return self._environment.render("front", self._render_size) if self.render_mode else None

    def close(self) -> None:
        self._environment.close()


class RestAtEnd(gym.Wrapper[dict[str, Any], NDArray[np.float32], dict[str, Any], NDArray[np.float32]]):
    """Keeps an ended episode unchanged until a reset with a seed or options.

    A vector environment steps and resets ended episodes until its slowest episode ends. Here this costs nothing, and
    picture and instruction stay. Rewards after the end are 0.
    """

    def __init__(self, env: gym.Env[dict[str, Any], NDArray[np.float32]]) -> None:
        super().__init__(env)
        self._end: tuple[dict[str, Any], float, bool, bool, dict[str, Any]] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        if self._end is not None and seed is None and options is None:
            return self._end[0], self._end[4]
        self._end = None
        return self.env.reset(seed=seed, options=options)

    def step(self, action: NDArray[np.float32]) -> tuple[dict, float, bool, bool, dict]:
        if self._end is not None:
            return self._end
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            self._end = (observation, 0.0, terminated, truncated, info)
        return observation, float(reward), terminated, truncated, info


def make_resting(**kwargs: Any) -> gym.Env[dict[str, Any], NDArray[np.float32]]:
    """A `TabletopEnv` that rests at the end of an episode. `partial(make_resting, ...)` can be pickled."""
    return RestAtEnd(TabletopEnv(**kwargs))


def _to_gym(observation: Observation) -> dict[str, Any]:
    return {"pixels": dict(observation.images), "agent_pos": observation.state}
