"""The tasks of a LeRobot environment, and the vector environment of one of them.

LeRobot builds all tasks of a benchmark at once. Here the tasks of Meta-World and LIBERO are read from their lists, and
one is built at a time. Other environments of several tasks are built once to see what they have.
"""

import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from gymnasium.vector import SyncVectorEnv
from lerobot.envs import EnvConfig, close_envs, make_env

from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_robot.lerobot.env_names import EnvironmentName, needed_packages

MT10 = (
    *("reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-open-v3", "drawer-close-v3"),
    *("button-press-topdown-v3", "peg-insert-side-v3", "window-open-v3", "window-close-v3"),
)
"""The ten tasks of `metaworld.MT10`."""


@dataclass(frozen=True, kw_only=True)
class LeRobotTask:
    """One task, and how LeRobot builds it."""

    name: str
    """Its name in reports."""
    group: str
    """Name of its suite or difficulty."""
    config: EnvConfig
    """Configuration whose `create_envs` builds it, alone if possible."""
    key: tuple[str, int] | None = None
    """Its suite and task_id among those that the configuration builds; None if it is the only one."""


def tasks_of(name: EnvironmentName) -> list[LeRobotTask]:
    """Every task, in LeRobot's order. Raises `UnknownNameError`, or `SystemSetupError` for a missing package."""
    config = name.config
    if name.kind == "metaworld":
        return _metaworld(config, (config.task or "").split(",") if name.names_task else ["MT50"])
    if name.kind in ("libero", "libero_plus"):
        return _libero(config)
    if type(config).create_envs is EnvConfig.create_envs:
        return [LeRobotTask(name=config.task or name.kind, group=name.kind, config=config)]
    return _built(config)


def build(task: LeRobotTask) -> SyncVectorEnv:
    """The task's vector environment of one episode at a time. Those that LeRobot built beside it are closed."""
    envs = _build_all(task.config)
    every = {(suite, task_id): env for suite, some in envs.items() for task_id, env in some.items()}
    key = next(iter(every)) if task.key is None else task.key
    wanted = every.pop(key)
    close_envs(list(every.values()))
    return wanted


def _build_all(config: EnvConfig) -> dict[str, dict[int, Any]]:
    with needed_packages(config), redirect_stdout(io.StringIO()):  # LeRobot prints a line for every task
        return make_env(config, n_envs=1, use_async_envs=False)


def _metaworld(config: EnvConfig, wanted: list[str]) -> list[LeRobotTask]:
    """Tasks by their names, their difficulty, MT10 or MT50. A task's group is its difficulty."""
    groups = json.loads((files("lerobot.envs") / "metaworld_config.json").read_text())["DIFFICULTY_TO_TASKS"]
    group_of = {task: group for group, some in groups.items() for task in some}
    sets = {**groups, "MT10": MT10, "MT50": tuple(group_of)}
    chosen: dict[str, str] = {}
    for one in filter(None, (word.strip().removeprefix("metaworld-") for word in wanted)):
        if one not in sets and one not in group_of:
            raise UnknownNameError("task of lerobot:metaworld", one, (*sets, *group_of))
        chosen |= {task: group_of[task] for task in sets.get(one, (one,))}
    return [LeRobotTask(name=task, group=group, config=replace(config, task=task)) for task, group in chosen.items()]


def _libero(config: Any) -> list[LeRobotTask]:
    """The tasks of the suites that `config.task` names, of `task_ids` alone if it has some."""
    with needed_packages(config):
        from libero.libero import benchmark  # pyright: ignore[reportMissingImports]
    known, tasks = benchmark.get_benchmark_dict(), []
    for suite in filter(None, (word.strip() for word in config.task.split(","))):
        if suite not in known:
            raise UnknownNameError(f"suite of lerobot:{config.type}", suite, sorted(known))
        with redirect_stdout(io.StringIO()):
            names = [task.name for task in known[suite]().tasks]
        ids = range(len(names)) if config.task_ids is None else config.task_ids
        if not set(ids) <= set(range(len(names))):
            raise InvalidValueError(f"task_ids={list(ids)}: {suite} has the tasks 0..{len(names) - 1}")
        alone = {k: replace(config, task=suite, task_ids=[k]) for k in ids}
        tasks += [LeRobotTask(name=names[k], group=suite, config=one) for k, one in alone.items()]
    return _distinct(tasks)


def _built(config: EnvConfig) -> list[LeRobotTask]:
    envs = _build_all(config)
    try:
        return _distinct(
            [
                LeRobotTask(name=_name(env) or f"{suite}_{task_id}", group=suite, config=config, key=(suite, task_id))
                for suite, some in envs.items()
                for task_id, env in some.items()
            ]
        )
    finally:
        close_envs(envs)


def _name(env: SyncVectorEnv) -> str:
    try:
        return str(env.call("task")[0])
    except (AttributeError, NotImplementedError):
        return ""


def _distinct(tasks: list[LeRobotTask]) -> list[LeRobotTask]:
    """The tasks with different names: those with a common name get their group and number before it."""
    names = [task.name for task in tasks]
    return [
        task if names.count(task.name) == 1 else replace(task, name=f"{task.group}/{i}/{task.name}")
        for i, task in enumerate(tasks)
    ]
