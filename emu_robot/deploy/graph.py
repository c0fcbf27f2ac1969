"""Chooses the nodes that run together and their parameters: a graph of graph.yaml with a user's changes.

`emu-robot bringup`, the launch file and the demonstration use it. Knows no middleware.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from emu_robot.control.safety import SafetyConfig
from emu_robot.deploy.graph_file import GraphFile, Parameter, Scalar, graph_path, read_graph_file
from emu_robot.errors import ConfigError, InvalidValueError, UnknownNameError
from emu_robot.planner.config import ReplanConfig
from emu_robot.policy.config import ChunkConfig
from emu_robot.robots.deployment import deployments, read_deployment
from emu_robot.robots.ros_names import node_label, read_namespace
from emu_robot.teleop.driving import TeleopConfig

SETTINGS_OF: dict[str, type[Any]] = {
    "safety": SafetyConfig,
    "planner": ReplanConfig,
    "policy": ChunkConfig,
    "teleop": TeleopConfig,
}
"""Node -> dataclass whose fields, numbers with ranges, are also its parameters."""


@dataclass(frozen=True, kw_only=True)
class GraphNode:
    """A node and its process."""

    name: str
    """Name of the node; executable and module are named after it."""
    parameters: Mapping[str, Parameter]
    """ROS parameters."""
    nice: int = 0
    """Added to the niceness of the process."""
    last_to_stop: bool = False
    """Whether it stops only after the others have ended."""

    @property
    def module(self) -> str:
        """Python module of the node."""
        return f"emu_robot_ros.{self.name}_node"

    def ros_arguments(self, namespace: str = "") -> list[str]:
        """Command line arguments of a ROS 2 node. Text is quoted, so that "1" stays text."""
        words = ["--ros-args", *(["-r", f"__ns:={namespace}"] if namespace else [])]
        for name, value in self.parameters.items():
            words += ["-p", f"{name}:={json.dumps(value, ensure_ascii=False)}"]
        return words


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes that run together."""

    name: str
    """Name of the graph in graph.yaml."""
    namespace: str
    """Absolute namespace; empty for the root."""
    environment: Mapping[str, str]
    """Environment variables of every node."""
    usual_environment: Mapping[str, str]
    """Environment variables of every node that apply only where they are not set."""
    nodes: tuple[GraphNode, ...]
    """Nodes in the order of their start."""

    def label(self, node: GraphNode) -> str:
        """Label of the node's lines, which differs between namespaces."""
        return node_label(node.name, self.namespace)


def read_graph(
    name: str = "sim",
    *,
    nodes: str = "",
    namespace: str = "",
    settings: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Graph:
    """The graph called `name` with a user's changes.

    nodes: "a,b" replaces the graph's nodes, "+a,-b" adds one and removes one. namespace: "left", "/lab/left", or "/"
    for the root; empty keeps the graph's. settings: argument ("robot", "weights") or parameter ("sim_bridge.seed") ->
    value as text.
    Raises `UnknownNameError` for unknown names, `ConfigError` and `InvalidValueError` for values that do not fit, and
    `ConfigError` naming file and key for an error in the file.
    """
    found = read_graph_file(file or graph_path())
    if name not in found.graphs:
        raise UnknownNameError("graph", name, found.graphs)
    chosen = found.graphs[name]
    names = choose_nodes(chosen.nodes, nodes, found.nodes)
    typed, typed_of = _sort_settings(settings or {}, names, found)
    arguments = {**found.arguments, **chosen.arguments, **typed}
    if any("robot" in found.nodes[node].arguments for node in names):
        arguments["robot"] = _robot(arguments.get("robot"), name)
    made = tuple(_make_node(node, found, arguments, typed_of.get(node, {})) for node in names)
    return Graph(
        name=name,
        namespace=read_namespace(namespace) if namespace else chosen.namespace,
        environment=chosen.environment,
        usual_environment=found.environment,
        nodes=made,
    )


def choose_nodes(usual: Iterable[str], wanted: str, known: Iterable[str]) -> tuple[str, ...]:
    """Names of the nodes after a choice such as "a,b" or "+a,-b"; the usual nodes if it is empty."""
    words = [word.strip() for word in wanted.split(",") if word.strip()]
    for word in words:
        if word.lstrip("+-") not in set(known):
            raise UnknownNameError("node", word.lstrip("+-"), known)
    changes = [word for word in words if word[0] in "+-"]
    if changes and len(changes) != len(words):
        raise ConfigError(f"nodes={wanted}: either names alone, or each with + or -")
    names = list(usual) if changes or not words else words
    names = [name for name in names if f"-{name}" not in changes]
    names += [word[1:] for word in changes if word[0] == "+"]
    if not names:
        raise ConfigError(f"nodes={wanted}: no node is left")
    return tuple(dict.fromkeys(names))


def _sort_settings(
    settings: Mapping[str, str], names: tuple[str, ...], found: GraphFile
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Split settings into those of arguments, and per node those of parameters."""
    arguments: dict[str, str] = {}
    parameters: dict[str, dict[str, str]] = {}
    for key, value in settings.items():
        node, dot, parameter = key.partition(".")
        if not dot and key in found.arguments:
            arguments[key] = value
        elif not dot:
            raise UnknownNameError("setting", key, [*found.arguments, *(f"{name}.<parameter>" for name in names)])
        elif node not in names:
            raise UnknownNameError(f"node in {key}=", node, names)
        else:
            parameters.setdefault(node, {})[parameter] = value
    return arguments, parameters


def _make_node(name: str, found: GraphFile, arguments: Mapping[str, str | None], typed: Mapping[str, str]) -> GraphNode:
    entry = found.nodes[name]
    parameters: dict[str, Parameter] = {}
    for argument in entry.arguments:
        value = arguments[argument]
        if value is None:
            raise ConfigError(f"{argument}= is missing, {name} needs it")
        parameters[argument] = value
    parameters |= entry.parameters
    usual = {**_usual_settings(name), **entry.parameters}
    for parameter, text in typed.items():
        if parameter not in usual:
            raise UnknownNameError(f"parameter of {name}", parameter, usual)
        parameters[parameter] = _like(usual[parameter], text, f"{name}.{parameter}")
    _check_settings(name, parameters)
    return GraphNode(name=name, parameters=parameters, nice=entry.nice, last_to_stop=entry.last_to_stop)


def _usual_settings(node: str) -> dict[str, Parameter]:
    usual: dict[str, Any] = {}
    if kind := SETTINGS_OF.get(node):
        usual = {setting.name: setting.default for setting in fields(kind)}
    return usual


def _check_settings(node: str, parameters: Mapping[str, Parameter]) -> None:
    """Raise `InvalidValueError` if a parameter is out of its range."""
    if kind := SETTINGS_OF.get(node):
        kind(**{name: value for name, value in parameters.items() if name in _usual_settings(node)})


def _like(usual: Parameter, text: str, key: str) -> Parameter:
    """The typed text as the type of the value it replaces. A list is written "a,b" or "[a, b]"."""
    if not isinstance(usual, list):
        return _scalar_like(usual, text, key)
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return [_scalar_like(usual[0], word.strip(), key) for word in inner.split(",")]


def _scalar_like(usual: Scalar, text: str, key: str) -> Scalar:
    if isinstance(usual, str):
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if isinstance(usual, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(usual):
        kinds = {bool: "true or false", int: "a whole number", float: "a number"}
        raise InvalidValueError(f"{key}={text}: must be {kinds[type(usual)]}")
    return value


def _robot(name: str | None, graph: str) -> str:
    """The robot's name, or the absolute path of its file. Reads the robot, to refuse a wrong one."""
    if name is None:
        raise ConfigError(f"robot= is missing for the graph {graph}; one of {', '.join(deployments())}, or a YAML file")
    read_deployment(name)
    return str(Path(name).resolve()) if Path(name).is_file() else name
