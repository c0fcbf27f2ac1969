"""Read the name of a LeRobot environment: `TYPE[/TASK][,SETTING=VALUE ...]` becomes the `EnvConfig` of that type.

Knows no simulator: it names the package that a type needs, and does not import it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import metadata, version
from typing import Any

import draccus
import yaml
from lerobot.envs import EnvConfig
from lerobot.utils.import_utils import register_third_party_plugins

from emu_robot.errors import ConfigError, EmuRobotError, SystemSetupError, UnknownNameError

DERIVED = ("features", "features_map")
"""Fields that follow from the others."""
IMAGE_SIZE, IMAGE_SIZES, SMALL_PICTURES = "image_size", range(16, 481), ("metaworld",)
"""A setting of our own, its values [px], and the types that have it."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentName:
    """What a name says."""

    config: EnvConfig
    """LeRobot's configuration."""
    names_task: bool
    """Whether the name has a task; else it is the configuration's default."""
    image_size: int | None = None
    """Height and width of the pictures of our own world [px]; None for LeRobot's environment."""

    @property
    def kind(self) -> str:
        """LeRobot's type of the environment."""
        return self.config.type


def known_kinds() -> list[str]:
    """The types that LeRobot and its installed plugins register."""
    _register_plugins()
    return sorted(EnvConfig.get_known_choices())


def read_name(text: str) -> EnvironmentName:
    """The environment that a text describes. Raises `UnknownNameError` for a type or setting, `ConfigError`."""
    head, *settings = re.split(r",(?=\w+=)", text)
    kind, _, task = head.partition("/")
    known = known_kinds()
    if kind not in known:
        raise UnknownNameError("LeRobot environment", kind, known)
    values: dict[str, Any] = {"task": task} if task else {}
    names = [field.name for field in fields(EnvConfig.get_choice_class(kind)) if field.name not in DERIVED]
    names += [IMAGE_SIZE] if kind in SMALL_PICTURES else []
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in names:
            raise UnknownNameError(f"setting of lerobot:{kind}", key, names)
        if key in values:
            raise ConfigError(f"lerobot:{text}: {key} is given twice")
        values[key] = yaml.safe_load(value)
    image_size = _image_size(text, values.pop(IMAGE_SIZE, None), values)
    return EnvironmentName(config=_decode(text, kind, values), names_task="task" in values, image_size=image_size)


def _image_size(text: str, given: Any, others: dict[str, Any]) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given not in IMAGE_SIZES:
        raise ConfigError(f"lerobot:{text}: image_size is {given}, must be a whole number in [16, 480]")
    if others.get("obs_type", "pixels_agent_pos") != "pixels_agent_pos":
        raise ConfigError(f"lerobot:{text}: image_size needs obs_type=pixels_agent_pos, got {others['obs_type']}")
    return given


def _decode(text: str, kind: str, values: dict[str, Any]) -> EnvConfig:
    try:
        return draccus.decode(EnvConfig, {"type": kind, **values})
    except EmuRobotError:
        raise
    except Exception as error:  # a plugin's configuration may raise anything
        raise ConfigError(f"lerobot:{text}: {' '.join(str(error).split())}") from error


@contextmanager
def needed_packages(config: EnvConfig) -> Iterator[None]:
    """Raise `SystemSetupError` that says how to get the package of this type if it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        kind, said = config.type, " ".join(str(error).split())
        extras = metadata("lerobot").get_all("Provides-Extra") or []
        source = f"pip install 'lerobot[{kind}]=={version('lerobot')}'" if kind in extras else "see its documentation"
        raise SystemSetupError(f"environment lerobot:{kind} lacks a package ({said}); get it: {source}") from error


@cache
def _register_plugins() -> None:
    register_third_party_plugins()
