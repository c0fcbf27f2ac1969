"""The public names of the package. Importing it loads none of them; each is loaded at its first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emu_robot.core import ActionChunk, Observation, Plan, PlanStep, Policy
    from emu_robot.environments import make
    from emu_robot.environments.contract import Environment
    from emu_robot.errors import EmuRobotError
    from emu_robot.evaluation.config import EvalConfig
    from emu_robot.evaluation.rollouts import evaluate
    from emu_robot.observation.image_file import read_picture
    from emu_robot.planner.planner import Planner
    from emu_robot.policy.emu_policy import load_policy

    __version__: str

__all__ = [
    "ActionChunk",
    "EmuRobotError",
    "Environment",
    "EvalConfig",
    "Observation",
    "Plan",
    "PlanStep",
    "Planner",
    "Policy",
    "__version__",
    "evaluate",
    "load_policy",
    "make",
    "read_picture",
]

_MODULES = {
    "core": ("ActionChunk", "Observation", "Plan", "PlanStep", "Policy"),
    "environments": ("make",),
    "environments.contract": ("Environment",),
    "errors": ("EmuRobotError",),
    "evaluation.config": ("EvalConfig",),
    "evaluation.rollouts": ("evaluate",),
    "observation.image_file": ("read_picture",),
    "planner.planner": ("Planner",),
    "policy.emu_policy": ("load_policy",),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # else a type checker would accept any name

    def __getattr__(name: str) -> Any:
        """Load a name of `__all__` and keep it. Raises `AttributeError` for other names."""
        if name == "__version__":
            value = _version()
        elif name in _HOMES:
            value = getattr(import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers: {', '.join(__all__)}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """Version of the installed distribution."""
    from importlib import metadata  # takes longer than all else here

    try:
        return metadata.version(__name__)
    except metadata.PackageNotFoundError as error:
        raise AttributeError(f"{__name__} is not installed and has no version; in its checkout: make setup") from error
