"""The tabletop for `lerobot-eval` and `lerobot-train`: `--env.type=emu_tabletop`."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock
from types import ModuleType
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs import EnvConfig
from lerobot.envs.utils import _LazyAsyncVectorEnv
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from emu_robot.data.seed_choice import SEED_LIMIT
from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_robot.robots.spec import PANDA
from emu_sim.grammar import TABLETOP
from emu_sim.tabletop import ACTION_MODES, make_resting

_starting = Lock()
"""Lets one thread at a time start worker processes, as LeRobot can evaluate several tasks at once."""


@EnvConfig.register_subclass("emu_tabletop")
@dataclass
class EmuTabletopEnv(EnvConfig):
    """Tasks, observations and actions of the tabletop; see `emu_sim.tabletop.TabletopEnv`.

    Policies see observation.images.front and .wrist (3, 128, 128) in [0, 1], observation.state (8,) and, as `task`, the
    instruction of each episode. Raises `UnknownNameError` for an unknown name, `InvalidValueError` for a wrong number.
    """

    task: str | None = "single"
    """Families or the groups "single", "long", "all", joined by commas."""
    fps: int = PANDA.control_hz
    """Control ticks per second; 20 only [Hz]."""
    split: str = "seen"
    """Compositions of a task: "seen" or "heldout"."""
    pooled: bool = False
    """False gives each family a task_id and results of its own, in the order of the families; True gives all one
    task_id, and each episode draws its family."""
    action_mode: str = "joint"
    """Kind of action: "joint" or "ee_delta"."""
    render_size: int = 256
    """Side of the videos, at least 1 [px]."""
    seed_offset: int = SEED_LIMIT
    """Number added to every seed, at least 0. With the default no episode has the layout of a demonstration, and
    `lerobot-eval --seed=0` plays in each family the layouts of `emu-robot eval tasks=<family> seed=0`."""

    def __post_init__(self) -> None:
        self.families = TABLETOP.resolve((self.task or "").split(","), self.split)
        if self.action_mode not in ACTION_MODES:
            raise UnknownNameError("action mode", self.action_mode, ACTION_MODES)
        if self.fps != PANDA.control_hz:
            raise InvalidValueError(f"fps is {self.fps}; the tabletop runs at {PANDA.control_hz} only")
        for key, least in (("seed_offset", 0), ("render_size", 1)):
            if getattr(self, key) < least:
                raise InvalidValueError(f"{key} is {getattr(self, key)}; it must be at least {least}")
        n_actions = len(PANDA.action_names) if self.action_mode == "joint" else 4
        size = PANDA.image_size
        # Cameras have the names that `--eval.recording` writes; it would not find "pixels/front".
        cameras = [f"{OBS_IMAGES}.{camera}" for camera in PANDA.cameras]
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, (n_actions,)),
            "agent_pos": PolicyFeature(FeatureType.STATE, (len(PANDA.state_names),)),
            **{camera: PolicyFeature(FeatureType.VISUAL, (size, size, 3)) for camera in cameras},
        }
        self.features_map = {ACTION: ACTION, "agent_pos": OBS_STATE, **{camera: camera for camera in cameras}}

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "action_mode": self.action_mode,
            "render_size": self.render_size,
            "seed_offset": self.seed_offset,
        }

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, Any]]:
        """{"emu_tabletop": {task_id: vector environment}} of n_envs episodes at once, in separate processes if async.

        Each is built at its first use, as LeRobot goes through the tasks one after the other.
        """
        families = [self.families] if self.pooled else [(family,) for family in self.families]
        make_one = [partial(make_resting, families=names, **self.gym_kwargs) for names in families]
        make_all = partial(SyncVectorEnv, autoreset_mode=AutoresetMode.NEXT_STEP)
        if use_async_envs and n_envs > 1:
            make_all = partial(AsyncVectorEnv, autoreset_mode=AutoresetMode.NEXT_STEP, context="forkserver")
        for task_id, names in enumerate(families):
            logging.info("%s: task_id %d is %s", self.type, task_id, ", ".join(names))
        like = make_one[0]()
        envs = {task_id: _LazyVectorEnv(make_all, [make] * n_envs, like) for task_id, make in enumerate(make_one)}
        like.close()
        return {self.type: envs}


class _LazyVectorEnv(_LazyAsyncVectorEnv):
    """LeRobot's class, but its worker processes load emu_sim alone, never LeRobot."""

    _env: Any

    def __init__(self, make_all: Callable[..., Any], make_one: list[Callable[[], gym.Env]], like: gym.Env) -> None:
        super().__init__(make_one, like.observation_space, like.action_space, like.metadata)
        self._make_all = make_all

    def _ensure(self) -> None:
        if self._env is None:
            with _anonymous_main():
                self._env = self._make_all(self._env_fns)


@contextmanager
def _anonymous_main() -> Iterator[None]:
    """Keep new processes from importing the main module; `lerobot-eval` would cost each some 20 s."""
    with _starting:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
