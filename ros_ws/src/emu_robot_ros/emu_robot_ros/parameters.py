"""Settings of emu_robot as ROS parameters: declared with description and range, read back as the same dataclass."""

from collections.abc import Collection
from dataclasses import fields
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from emu_robot.shared.settings import field_docs

MAX_SEED = 2**31 - 1
"""Largest seed that a node takes."""


def declare_settings(node: Node, kind: type[Any], names: Collection[str] | None = None) -> None:
    """Declare one parameter per field of a dataclass of `settings.number` fields, or only those in `names`.

    Fields with a whole default become integers. The parameters are read-only: the checks of the start hold until the
    end, and no limit is widened in operation.
    """
    docs = field_docs(kind)
    for setting in fields(kind):
        if names is not None and setting.name not in names:
            continue
        low, high, default = setting.metadata["low"], setting.metadata["high"], setting.default
        descriptor = ParameterDescriptor(description=docs[setting.name], read_only=True)
        if isinstance(default, int):
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        node.declare_parameter(setting.name, default, descriptor)


def read_settings[T](node: Node, kind: type[T]) -> T:
    """The dataclass with the values of its declared parameters."""
    return kind(**{setting.name: node.get_parameter(setting.name).value for setting in fields(kind)})  # pyright: ignore


def declare_text(node: Node, name: str, default: str, description: str) -> None:
    """Declare a read-only text parameter."""
    node.declare_parameter(name, default, ParameterDescriptor(description=description, read_only=True))


def declare_number(node: Node, name: str, default: float, low: float, high: float, description: str) -> None:
    """Declare a read-only parameter in [low, high]; an integer if the default is an integer."""
    descriptor = ParameterDescriptor(description=description, read_only=True)
    if isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    else:
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    node.declare_parameter(name, default, descriptor)


def text(node: Node, name: str) -> str:
    """Value of a parameter of `declare_text`."""
    return str(node.get_parameter(name).value)


def number(node: Node, name: str) -> float:
    """Value of a parameter of `declare_number`."""
    value: Any = node.get_parameter(name).value
    return value
