"""LeRobot's robots and teleoperators by the name of their type and `key=value` settings, with errors of one line."""

import contextlib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import SequenceMatcher
from typing import Any

import draccus
import yaml
from lerobot.cameras import CameraConfig
from lerobot.robots import RobotConfig, make_robot_from_config
from lerobot.teleoperators import TeleoperatorConfig, make_teleoperator_from_config
from lerobot.utils.import_utils import register_third_party_plugins

from emu_robot.errors import ConfigError, SystemSetupError, UnknownNameError, nearest_known
from emu_robot.robots.ports import serial_ports
from emu_robot.teleop.polling import one_line

OWN_GATE = "emu_gated"
"""Our robot with a gate of its own: a session has one already."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Robots or teleoperators."""

    word: str
    """The word before its settings: `arm` or `leader`."""
    package: str
    """LeRobot's package of them."""
    registry: Any
    """LeRobot's registry of their settings."""
    make: Callable[[Any], Any]
    """LeRobot's function that makes one of its settings."""
    option: str
    """The word for it on LeRobot's command lines."""


ARM = Kind(word="arm", package="lerobot.robots", registry=RobotConfig, make=make_robot_from_config, option="robot")
LEADER = Kind(
    word="leader",
    package="lerobot.teleoperators",
    registry=TeleoperatorConfig,
    make=make_teleoperator_from_config,
    option="teleop",
)


def known_types(kind: Kind) -> tuple[str, ...]:
    """Names of all types that are registered so far."""
    return tuple(sorted(name for name in kind.registry.get_known_choices() if name != OWN_GATE))


def make_device(kind: Kind, name: str, settings: Mapping[str, Any]) -> Any:
    """A device that is not connected yet. settings: nested, as from `read_settings`.

    Raises `UnknownNameError`, `ConfigError`, or `SystemSetupError` if a library of it is missing.
    """
    schema = _find(kind, name)
    if isinstance(settings.get("cameras"), Mapping):
        _check_cameras(kind, settings["cameras"])
    given = {field.name for field in fields(schema)}
    if unknown := [key for key in settings if key not in given]:
        valid = ", ".join(sorted(given))
        raise ConfigError(
            f"{name} has no setting {kind.word}.{unknown[0]}; valid: {valid}{nearest_known(unknown[0], given)}"
        )
    needed = [field.name for field in fields(schema) if field.default is field.default_factory is MISSING]
    if missing := [key for key in needed if key not in settings]:
        raise ConfigError(f"{name} needs {_told(kind, missing)}{_ports_here() if 'port' in missing else ''}")
    try:
        return kind.make(draccus.decode(schema, dict(settings)))
    except ImportError as error:
        raise SystemSetupError(f"{name}: {one_line(error)}") from error
    except Exception as error:  # draccus and each device raise their own
        raise ConfigError(f"{name}: {one_line(error)}") from error


def read_settings(words: Mapping[str, str]) -> dict[str, Any]:
    """Settings by dotted key, such as "cameras.front.type", as nested tables. Lists and tables are YAML.

    Raises `ConfigError`.
    """
    tree: dict[str, Any] = {}
    for key, text in words.items():
        *folders, name = key.split(".")
        place: Any = tree
        for folder in folders:
            place = place.setdefault(folder, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{key} and {folder} are both given")
        place[name] = _value(key, text)
    return tree


def connect(kind: Kind, device: Any, name: str) -> None:
    """Connect a device, and never calibrate it: that moves servos out of their torque, and asks in the terminal.

    Raises `ConfigError` without a calibration, `SystemSetupError` if it cannot be reached.
    """
    check_calibration_file(kind, device, name)
    takes = inspect.signature(device.connect).parameters
    try:
        device.connect(**({"calibrate": False} if "calibrate" in takes else {}))
    except Exception as error:
        with contextlib.suppress(Exception):  # half of it may be connected
            device.disconnect()
        port = getattr(device.config, "port", None)
        where = f" on {port}" if port else ""
        raise SystemSetupError(
            f"{name} cannot be reached{where}: {one_line(error)}{_ports_here() if port else ''}"
        ) from error
    is_calibrated = device.is_calibrated() if callable(device.is_calibrated) else device.is_calibrated
    if not is_calibrated:
        device.disconnect()
        file = device.calibration_fpath
        raise ConfigError(f"{name}: the servos hold another calibration than {file}; {_remedy(kind, device, name)}")


def check_calibration_file(kind: Kind, device: Any, name: str) -> None:
    """Raise `ConfigError` if a device with a motor bus has no calibration, before anything is connected."""
    if not hasattr(device, "bus") or device.calibration:
        return
    here = sorted(path.stem for path in device.calibration_dir.glob("*.json"))
    raise ConfigError(
        f"{name} is not calibrated: no {device.calibration_fpath}; {kind.word}.id with a calibration there: "
        f"{', '.join(here) or 'none'}; {_remedy(kind, device, name)}"
    )


def _find(kind: Kind, name: str) -> Any:
    """The settings' class of a type. LeRobot's packages are loaded until it is found, those with like names first."""
    if name not in kind.registry.get_known_choices():
        package = importlib.import_module(kind.package)
        names = [found.name for found in pkgutil.iter_modules(package.__path__) if found.ispkg]
        for module in sorted(names, key=lambda one: -SequenceMatcher(None, one, name).ratio()):
            importlib.import_module(f"{kind.package}.{module}")
            if name in kind.registry.get_known_choices():
                break
        else:
            register_third_party_plugins()
    if name not in known_types(kind):
        raise UnknownNameError(f"type of {kind.word}", name, known_types(kind))
    return kind.registry.get_choice_class(name)


def _check_cameras(kind: Kind, cameras: Mapping[str, Any]) -> None:
    """Load the types of cameras. Raises `ConfigError` or `UnknownNameError` for a camera without a known one."""
    package = importlib.import_module("lerobot.cameras")
    for found in pkgutil.iter_modules(package.__path__):
        if found.ispkg:
            importlib.import_module(f"lerobot.cameras.{found.name}")
    known = sorted(CameraConfig.get_known_choices())
    for name, settings in cameras.items():
        given = settings.get("type") if isinstance(settings, Mapping) else None
        if given not in known:
            raise UnknownNameError(f"{kind.word}.cameras.{name}.type", given, known)


def _value(key: str, text: str) -> Any:
    if not text.startswith(("[", "{")) and text not in ("true", "false", "null"):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{key}={text}: {one_line(error)}") from error


def _told(kind: Kind, keys: list[str]) -> str:
    return ", ".join(f"{kind.word}.{key}=" for key in keys)


def _ports_here() -> str:
    return f"; serial ports here: {', '.join(serial_ports()) or 'none'}"


def _remedy(kind: Kind, device: Any, name: str) -> str:
    port = getattr(device.config, "port", None)
    words = f" --{kind.option}.port={port}" if port else ""
    return (
        f"calibrate: lerobot-calibrate --{kind.option}.type={name}{words} --{kind.option}.id={device.id or 'NAME'}, "
        f"and give {kind.word}.id"
    )
