"""Environments by name; the simulator is imported only when asked for."""

from importlib import import_module
from typing import Any

from emu_robot.core import Environment
from emu_robot.errors import UnknownNameError

ENVIRONMENTS = {"tabletop": "emu_sim.environment:TabletopEnvironment"}


def make(name: str, **kwargs: Any) -> Environment:
    """Build the environment called `name`; raises `UnknownNameError` with the known ones."""
    if name not in ENVIRONMENTS:
        raise UnknownNameError("environment", name, ENVIRONMENTS)
    module, attribute = ENVIRONMENTS[name].split(":")
    return getattr(import_module(module), attribute)(**kwargs)
