"""Environments by name; the simulator is imported only when asked for."""

from importlib import import_module
from typing import Any

from emu_robot.core import Environment
from emu_robot.errors import UnknownNameError
from emu_robot.robots.spec import RobotLayout

ENVIRONMENTS = {"tabletop": "emu_sim.environment:TabletopEnvironment"}


def make(name: str, **kwargs: Any) -> Environment:
    """Build the environment called `name`; raises `UnknownNameError` with the known ones."""
    return _kind(name)(**kwargs)


def layout_of(name: str) -> RobotLayout:
    """What state and action of the environment called `name` are; raises `UnknownNameError`."""
    return _kind(name).layout


def _kind(name: str) -> Any:
    if name not in ENVIRONMENTS:
        raise UnknownNameError("environment", name, ENVIRONMENTS)
    module, attribute = ENVIRONMENTS[name].split(":")
    return getattr(import_module(module), attribute)
