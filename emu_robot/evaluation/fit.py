"""Checks before any episode that weights fit an environment and settings: rate, cameras, actions, decoder."""

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from emu_robot.environments.capabilities import HasExpert, HasOracle, require
from emu_robot.environments.contract import EnvironmentSpec, check_observation, open_task
from emu_robot.errors import WeightsError
from emu_robot.evaluation.config import ClosedLoopConfig, EvalConfig, LayoutsConfig, PlannedLayoutsConfig
from emu_robot.evaluation.worker import policy_config
from emu_robot.planner.decoding.config import Decoder, check_adapted
from emu_robot.policy.config import GoalMode
from emu_robot.policy.registry import source_of

if TYPE_CHECKING:  # reading weights loads torch, which an expert does not need
    from emu_robot.policy.weights_contract import HeadContract


def with_goal[C: ClosedLoopConfig](config: C) -> C:
    """The same settings with the goal mode of the weights in place of auto. Raises the errors of `head_contract`."""
    if not _has_weights(config) or config.goal != GoalMode.AUTO:
        return config
    from emu_robot.models.weights import resolve_weights
    from emu_robot.policy.weights_contract import head_contract

    return replace(config, goal=head_contract(resolve_weights(config.policy)).goal)


def check_fit(config: ClosedLoopConfig) -> None:
    """Check that policy and environment offer everything that an evaluation needs.

    Raises `WeightsError` naming both values where weights do not fit the environment, `ConfigError` where settings do
    not fit the weights, `InvalidValueError` for a capability that the environment lacks, `UnknownNameError` for a task,
    a split or weights.
    """
    suite, task, goal = config.suite(), config.selected()[0], GoalMode(with_goal(config).goal)
    if _has_weights(config):
        _check_weights(config, goal)
    elif config.policy != "expert":
        source, name = source_of(config.policy)
        source.check(name, suite.spec)
    needed = HasExpert if config.policy == "expert" else HasOracle if goal.needs_source else None
    with closing(open_task(suite, task.name, config.split)) as world:
        if needed is not None:
            require(world, needed, "policy=expert" if needed is HasExpert else f"goal={goal}")
        check_observation(f"environment {config.env}", world.reset(config.episode_seed(0)), suite.spec)


def _has_weights(config: ClosedLoopConfig) -> bool:
    """Whether the policy is to have weights of ours; only an evaluation takes others."""
    return config.is_ours if isinstance(config, EvalConfig) else config.policy != "expert"


def _check_weights(config: ClosedLoopConfig, goal: GoalMode) -> None:
    from emu_robot.models.weights import resolve_weights
    from emu_robot.policy.weights_contract import check_steps, head_contract

    head = head_contract(resolve_weights(config.policy))
    check_head(config, head, config.suite().spec)
    check_steps(policy_config(config).n_action_steps, head.action_horizon)
    if goal.needs_planner:
        check_planner(config)


def check_head(config: LayoutsConfig, head: "HeadContract", spec: EnvironmentSpec) -> None:
    """Raise `WeightsError` unless the action head fits the environment."""
    if head.control_hz != spec.control_hz:
        raise _unfit(config, "control rate", f"{head.control_hz} Hz", f"{spec.control_hz} Hz")
    for camera in head.cameras:
        _check_camera(config, camera, head.image_size, spec)
    for name, (theirs, its) in head.layout.differences(spec.layout).items():
        raise _unfit(config, name.replace("_", " "), _words(theirs), _words(its))


def check_planner(config: PlannedLayoutsConfig) -> None:
    """Raise `WeightsError` unless the environment has the planner's camera, `ConfigError` unless its decoder fits."""
    from emu_robot.models.weights import resolve_weights
    from emu_robot.policy.weights_contract import planner_camera, planner_path

    folder = resolve_weights(config.policy)
    check_adapted(Decoder(config.decoder), bool(planner_path(folder)))
    camera, size = planner_camera(folder)
    _check_camera(config, camera, size, config.suite().spec)


def _check_camera(config: LayoutsConfig, camera: str, size: int, spec: EnvironmentSpec) -> None:
    if camera not in spec.cameras:
        raise _unfit(config, "camera", camera, ", ".join(spec.cameras))
    found = spec.cameras[camera]
    if (found.height, found.width) != (size, size):
        raise _unfit(config, f"size of camera {camera}", f"{size} x {size}", f"{found.height} x {found.width}")


def _unfit(config: LayoutsConfig, what: str, theirs: str, its: str) -> WeightsError:
    both = f"{theirs} in the weights, {its} in the environment"
    return WeightsError(f"weights {config.policy} do not fit env={config.env}: {what} is {both}")


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
