"""Whether weights fit an environment, told before any episode runs: control rate, cameras, meaning of the actions."""

from contextlib import closing
from typing import TYPE_CHECKING, Any

from emu_robot.environments.capabilities import HasExpert, HasOracle, require
from emu_robot.environments.contract import EnvironmentSpec, open_task
from emu_robot.errors import WeightsError
from emu_robot.evaluation.config import EvalConfig, LayoutsConfig

if TYPE_CHECKING:  # reading weights loads torch, which an expert does not need
    from emu_robot.policy.weights_contract import HeadContract

WITH_PLANNER = ("planner", "shuffled", "text")


def check_fit(config: EvalConfig) -> None:
    """Check everything that an evaluation needs of its policy and environment.

    Raises `WeightsError` naming both values where weights do not fit, `InvalidValueError` for a capability that the
    environment lacks, `UnknownNameError` for a task, a split or weights.
    """
    suite, task = config.suite(), config.selected()[0]
    needed = HasExpert if config.policy == "expert" else HasOracle if config.goal in ("oracle", "shuffled") else None
    if needed is not None:
        purpose = "policy=expert" if needed is HasExpert else f"goal={config.goal}"
        with closing(open_task(suite, task.name, config.split)) as world:
            require(world, needed, purpose)
    if config.policy == "expert":
        return
    from emu_robot.models.weights import resolve_weights, stage_config
    from emu_robot.policy.weights_contract import head_contract

    folder = resolve_weights(config.policy)
    for stage in ("head", "planner", "tokenizer") if config.goal in WITH_PLANNER else ("head",):
        stage_config(folder, stage)  # raises `WeightsError` where one is missing
    check_head(config, head_contract(folder), suite.spec)
    if config.goal in WITH_PLANNER:
        check_planner(config)


def check_head(config: LayoutsConfig, head: "HeadContract", spec: EnvironmentSpec) -> None:
    """Raise `WeightsError` unless the action head fits the environment."""
    if head.control_hz != spec.control_hz:
        raise _unfit(config, "control rate", f"{head.control_hz} Hz", f"{spec.control_hz} Hz")
    for camera in head.cameras:
        _check_camera(config, camera, head.image_size, spec)
    for name, (theirs, its) in head.layout.differences(spec.layout).items():
        raise _unfit(config, name.replace("_", " "), _words(theirs), _words(its))


def check_planner(config: LayoutsConfig) -> None:
    """Raise `WeightsError` unless the planner's camera is one of the environment's."""
    from emu_robot.models.weights import resolve_weights
    from emu_robot.policy.weights_contract import planner_camera

    camera, size = planner_camera(resolve_weights(config.policy))
    _check_camera(config, camera, size, config.suite().spec)


def _check_camera(config: LayoutsConfig, camera: str, size: int, spec: EnvironmentSpec) -> None:
    if camera not in spec.cameras:
        raise _unfit(config, "camera", camera, ", ".join(spec.cameras))
    found = spec.cameras[camera]
    if (found.height, found.width) != (size, size):
        raise _unfit(config, f"size of camera {camera}", f"{size} x {size}", f"{found.height} x {found.width}")


def _unfit(config: LayoutsConfig, what: str, theirs: str, its: str) -> WeightsError:
    return WeightsError(f"weights {config.policy} do not fit env={config.env}: {what} is {theirs}, there {its}")


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
