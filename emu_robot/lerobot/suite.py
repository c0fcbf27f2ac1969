"""Every LeRobot environment as a suite: `emu-robot eval env=lerobot:TYPE/TASK,SETTING=VALUE`.

Seeds are those of `lerobot-eval`: episode k of every task has the seed S + k.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from typing import Any, Self

import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import create_empty_array
from lerobot.envs import EnvConfig, preprocess_observation
from packaging.requirements import Requirement

from emu_robot.environments.contract import ALL, CameraSpec, EnvironmentSpec, TaskSpec
from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_robot.lerobot.env_names import EnvironmentName, read_name
from emu_robot.lerobot.env_observation import to_observation
from emu_robot.lerobot.env_tasks import LeRobotTask, build, tasks_of
from emu_robot.lerobot.env_world import LeRobotWorld
from emu_robot.lerobot.metaworld_world import MetaworldWorld, metaworld_spec
from emu_robot.robots.spec import RobotLayout, unnamed


class LeRobotSuite:
    """The tasks of one `EnvConfig`."""

    default_tasks: Sequence[str] = (ALL,)

    def __init__(self, name: EnvironmentName) -> None:
        self._name = name

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The suite that a name describes, such as "pusht". Raises the errors of `read_name`."""
        return cls(read_name(text))

    @property
    def tasks(self) -> Sequence[TaskSpec]:
        return [TaskSpec(name=task.name, group=task.group) for task in self._tasks.values()]

    @cached_property
    def spec(self) -> EnvironmentSpec:
        """What LeRobot gives for the first task, whose spaces are taken from an environment without an episode."""
        task = next(iter(self._tasks.values()))
        if self._name.image_size is not None:
            return metaworld_spec(task.config.fps, self._name.image_size, dict(_versions(task.config)))
        with closing(build(task)) as env:
            return describe(task.config, env)

    def open(self, task: str, split: str) -> LeRobotWorld | MetaworldWorld:
        if task not in self._tasks:
            raise UnknownNameError("task", task, self._tasks)
        if self._name.image_size is not None:
            return MetaworldWorld(self._tasks[task], self.spec)
        return LeRobotWorld(self._tasks[task], build(self._tasks[task]), self.spec)

    def episode_seed(self, seed: int, number: int) -> int:
        """The seed of `lerobot-eval --seed=SEED` for episode `number` of a task."""
        return seed + number

    @cached_property
    def _tasks(self) -> Mapping[str, LeRobotTask]:
        return {task.name: task for task in tasks_of(self._name)}


def describe(config: EnvConfig, env: VectorEnv) -> EnvironmentSpec:
    """The description of an environment. Cameras and state are what LeRobot makes of an empty observation.

    LeRobot knows neither names nor units of state and action; those stay open. Raises `InvalidValueError` without a
    camera.
    """
    empty = create_empty_array(env.single_observation_space, n=1, fn=np.zeros)
    batch: Any = preprocess_observation(empty) if isinstance(empty, dict) else {}
    seen = to_observation(config.get_env_processors()[0](batch | {"task": [""]})) if batch else None
    if seen is None or not seen.images:
        raise InvalidValueError(f"lerobot:{config.type} shows no pictures with these settings; at least one is needed")
    n_actions = int(np.prod(env.single_action_space.shape or (1,)))
    return EnvironmentSpec(
        control_hz=config.fps,
        cameras={name: CameraSpec(height=len(image), width=image.shape[1]) for name, image in seen.images.items()},
        planner_camera=next(iter(seen.images)),
        layout=RobotLayout(
            state_names=unnamed("state", len(seen.state)),
            action_names=unnamed("action", n_actions),
            n_grippers=0,
            relative_dims=0,
        ),
        success_rule=f"LeRobot's environment {config.type} says so (is_success)",
        versions=dict(_versions(config, env)),
    )


def _versions(config: EnvConfig, env: VectorEnv | None = None) -> Iterator[tuple[str, str]]:
    """Versions of LeRobot, of the package of the environment, and of what LeRobot installs for it."""
    wanted = [Requirement(line) for line in requires("lerobot") or []]
    optional = [one for one in wanted if one.marker and "extra" in str(one.marker)]
    names = ["lerobot", *(one.name for one in optional if one.marker and one.marker.evaluate({"extra": config.type}))]
    for one in getattr(env, "envs", ()):
        names += packages_distributions().get(type(one.unwrapped).__module__.partition(".")[0], [])
    for name in dict.fromkeys([*names, "mujoco"]):
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
