"""The launch file against stand-ins for launch and launch_ros, which exist only in a ROS installation."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, List  # noqa: UP035

import pytest

from emu_robot.deploy.graph import read_graph
from emu_robot.errors import ConfigError, UnknownNameError

PACKAGE = Path(__file__).parents[2] / "ros_ws/src/emu_robot_ros"


class Made:
    """Whatever it is, it remembers how it was made."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.given, self.named = given, named


class LaunchDescription(Made): ...


class DeclareLaunchArgument(Made): ...


class OpaqueFunction(Made): ...


class SetEnvironmentVariable(Made): ...


class Shutdown(Made): ...


class LifecycleNode(Made): ...


class ParameterValue(Made): ...


class LaunchConfiguration(Made):
    def perform(self, context: dict[str, str]) -> str:
        return context[self.given[0]]


MODULES = {
    "launch": {"LaunchDescription": LaunchDescription, "LaunchContext": dict},
    "launch.actions": {
        kind.__name__: kind for kind in (DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown)
    },
    "launch.events": {},
    "launch.events.process": {"ProcessExited": Made},
    "launch.substitutions": {"LaunchConfiguration": LaunchConfiguration},
    "launch_ros": {},
    "launch_ros.actions": {"LifecycleNode": LifecycleNode},
    "launch_ros.parameter_descriptions": {"ParameterValue": ParameterValue},
}


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name, contents in MODULES.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("emu_robot_launch", PACKAGE / "launch/emu_robot.launch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def launched(launch_file: ModuleType, **typed: str) -> list[Made]:
    """What launch would do after `ros2 launch ... key:=value`."""
    (description,) = launch_file.generate_launch_description().given
    declared = {action.given[0]: action.named["default_value"] for action in description[:-1]}
    assert set(declared) >= {"graph", "robot", "weights"} and set(typed) <= set(declared)
    return description[-1].named["function"]({**declared, **typed})


@pytest.mark.parametrize(("graph", "robot"), [("sim", ""), ("arm", "ur5e")])
def test_launch_starts_what_bringup_starts(
    launch_file: ModuleType, graph: str, robot: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    monkeypatch.setenv("RMW_IMPLEMENTATION", "mine")
    actions = launched(launch_file, graph=graph, robot=robot, nodes="+recorder")
    wanted = read_graph(graph, nodes="+recorder", settings={"robot": robot} if robot else {})
    nodes = [action.named for action in actions if isinstance(action, LifecycleNode)]
    assert [node["name"] for node in nodes] == [node.name for node in wanted.nodes]
    for named, node in zip(nodes, wanted.nodes, strict=True):
        assert (named["package"], named["executable"], named["namespace"]) == ("emu_robot_ros", node.name, "")
        assert named["exec_name"] == node.name
        assert named["prefix"] == (f"nice -n {node.nice}" if node.nice else None)
        assert ended(named, is_shutdown=False) == f"{node.name} ended" and ended(named, is_shutdown=True) is None
        (parameters,) = named["parameters"]
        assert parameters.pop("autostart") is True
        assert {name: plain(value) for name, value in parameters.items()} == node.parameters
    variables = dict(action.given for action in actions if isinstance(action, SetEnvironmentVariable))
    assert "RMW_IMPLEMENTATION" not in variables
    del (usual := dict(wanted.usual_environment))["RMW_IMPLEMENTATION"]
    assert variables == {**usual, **wanted.environment, "PYTHONUNBUFFERED": "1"}


def ended(node: dict[str, Any], *, is_shutdown: bool) -> str | None:
    """Why all end once this node has, while they run, or while they end already."""
    made = node["on_exit"](None, SimpleNamespace(is_shutdown=is_shutdown))
    return made and made.named["reason"]


def plain(value: ParameterValue) -> Any:
    """Without its type, which keeps launch from reading it as YAML."""
    (given,), kind = value.given, value.named["value_type"]
    assert kind is (List[type(given[0])] if isinstance(given, list) else type(given))  # noqa: UP006
    return given


def test_lists_keep_the_type_of_what_is_in_them(launch_file: ModuleType, tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text('graphs: {sim: {nodes: [arm]}}\nnodes: {arm: {parameters: {axes: [""], scale: [1.0, 2.0]}}}\n')
    (node,) = (action for action in launched(launch_file, file=str(path)) if isinstance(action, LifecycleNode))
    (parameters,) = node.named["parameters"]
    assert plain(parameters["axes"]) == [""] and plain(parameters["scale"]) == [1.0, 2.0]


def test_lines_of_a_namespace_name_it(launch_file: ModuleType):
    nodes = [action.named for action in launched(launch_file, namespace="left") if isinstance(action, LifecycleNode)]
    assert {node["namespace"] for node in nodes} == {"/left"}
    assert [node["exec_name"] for node in nodes] == [f"left.{node['name']}" for node in nodes]
    assert ended(nodes[0], is_shutdown=False) == "left/safety ended"
    with pytest.raises(ConfigError, match="namespace='left/': must be letters"):
        launched(launch_file, namespace="left/")


def test_a_mistake_is_named(launch_file: ModuleType):
    with pytest.raises(UnknownNameError, match="unknown graph 'lab'; known: sim, arm"):
        launched(launch_file, graph="lab")


def test_the_package_installs_what_it_needs():
    setup = (PACKAGE / "setup.py").read_text()
    for folder in ("launch", "config"):
        assert f'glob("{folder}/*' in setup and list((PACKAGE / folder).iterdir())
