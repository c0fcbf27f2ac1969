"""Reads and checks graph.yaml; `graph.py` chooses from it. Knows no middleware."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from emu_robot.errors import ConfigError, UnknownNameError
from emu_robot.robots.ros_names import read_namespace

type Scalar = bool | int | float | str
type Parameter = Scalar | list[Scalar]


@dataclass(frozen=True, kw_only=True)
class NodeEntry:
    """How a node is started."""

    arguments: tuple[str, ...] = ()
    """Names of the file's arguments that it takes."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    """ROS parameters with their values."""
    nice: int = 0
    """Added to the niceness of its process."""
    last_to_stop: bool = False
    """Whether it stops only after the others have ended."""


@dataclass(frozen=True, kw_only=True)
class GraphEntry:
    """One graph of the file."""

    nodes: tuple[str, ...]
    """Names of the nodes in the order of their start."""
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    """Arguments that differ from the file's."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of its nodes."""
    namespace: str = ""
    """Absolute namespace; empty for the root."""


@dataclass(frozen=True, kw_only=True)
class GraphFile:
    """The content of graph.yaml."""

    graphs: Mapping[str, GraphEntry]
    """Graphs by name."""
    nodes: Mapping[str, NodeEntry]
    """Nodes by name."""
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    """Values that several nodes take; None if a user must give one."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of every node that apply only where they are not set."""


def graph_path() -> Path:
    """graph.yaml of the sourced ROS workspace, else of the repository. Raises `ConfigError` without either."""
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    places = [prefix / "share/emu_robot_ros/config" for prefix in prefixes]
    places.append(Path(__file__).resolve().parents[2] / "ros_ws/src/emu_robot_ros/config")
    for place in places:
        if (place / "graph.yaml").is_file():
            return place / "graph.yaml"
    raise ConfigError(f"no graph.yaml in {', '.join(map(str, places))}: build ros_ws and source its setup")


def read_graph_file(path: Path) -> GraphFile:
    """Read and check the file. Raises `ConfigError` naming the file and the wrong key, OSError if there is no file."""
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({str(error).splitlines()[0]})") from error
    try:
        made = GraphFile(**_section(values, "", _FILE, ("graphs", "nodes")))
        for name, graph in made.graphs.items():
            _all_known("node", graph.nodes, made.nodes, f"graphs.{name}.nodes")
            _all_known("argument", graph.arguments, made.arguments, f"graphs.{name}.arguments")
        for name, node in made.nodes.items():
            _all_known("argument", node.arguments, made.arguments, f"nodes.{name}.arguments")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error

    def located(environment: Mapping[str, str]) -> dict[str, str]:
        folder = str(path.resolve().parent)
        return {name: value.replace("{folder}", folder) for name, value in environment.items()}

    graphs = {name: replace(graph, environment=located(graph.environment)) for name, graph in made.graphs.items()}
    return replace(made, graphs=graphs, environment=located(made.environment))


type _Check = Callable[[Any, str], Any]


def _section(values: Any, key: str, checks: Mapping[str, _Check], needed: Iterable[str] = ()) -> dict[str, Any]:
    """The mapping with every value checked."""
    found: dict[str, Any] = _mapping(values, key)
    _all_known("key", found, checks, key)
    for name in needed:
        if name not in found:
            raise ConfigError(f"{_dotted(key, name)} is missing")
    return {name: checks[name](value, _dotted(key, name)) for name, value in found.items()}


def _mapping(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{key or 'the file'} is {value!r}, must be a mapping with names as keys")
    return dict(value)


def _a(what: str, *kinds: type) -> _Check:
    """A check for a value of one of these types; True and False are no numbers."""

    def check(value: Any, key: str) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ConfigError(f"{key} is {value!r}, must be {what}")
        return value

    return check


def _parameter(value: Any, key: str) -> Parameter:
    """A scalar, or a list of one type. Empty lists are refused: ROS could not tell their type."""
    if not isinstance(value, list):
        return _SCALAR(value, key)
    if not value or len({type(one) for one in value}) != 1:
        raise ConfigError(f"{key} is {value!r}, must be a list of values of one type, at least one")
    return [_SCALAR(one, key) for one in value]


def _table(check: _Check) -> _Check:
    return lambda value, key: {name: check(one, _dotted(key, name)) for name, one in _mapping(value, key).items()}


def _names(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{key} is {value!r}, must be a list of names")
    return tuple(value)


def _all_known(kind: str, given: Iterable[str], known: Iterable[str], key: str) -> None:
    for name in given:
        if name not in set(known):
            raise ConfigError(f"{key or 'the file'}: {UnknownNameError(kind, name, known)}")


def _namespace(value: Any, key: str) -> str:
    return read_namespace(_TEXT(value, key), key)


def _dotted(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


_TEXT, _ARGUMENT = _a("text", str), _a("text or null", str, type(None))
_SCALAR = _a("a number, text, true or false, or a list", bool, int, float, str)
_NODE: dict[str, _Check] = {
    "arguments": _names,
    "parameters": _table(_parameter),
    "nice": _a("a whole number", int),
    "last_to_stop": _a("true or false", bool),
}
_GRAPH: dict[str, _Check] = {
    "nodes": _names,
    "arguments": _table(_ARGUMENT),
    "environment": _table(_TEXT),
    "namespace": _namespace,
}
_FILE: dict[str, _Check] = {
    "environment": _table(_TEXT),
    "arguments": _table(_ARGUMENT),
    "graphs": _table(lambda value, key: GraphEntry(**_section(value, key, _GRAPH, ("nodes",)))),
    "nodes": _table(lambda value, key: NodeEntry(**_section(value or {}, key, _NODE))),
}
