"""Which nodes run together: the file that ships, what a user may change, and what is said about mistakes."""

from pathlib import Path

import pytest
import yaml

from emu_robot.deploy.graph import Graph, read_graph
from emu_robot.deploy.graph_file import graph_path, read_graph_file
from emu_robot.errors import ConfigError, EmuRobotError, UnknownNameError
from emu_robot.robots.deployment import ROBOTS


def names(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes]


def parameters(graph: Graph, name: str) -> dict[str, object]:
    return dict(next(node.parameters for node in graph.nodes if node.name == name))


def test_the_simulated_graph_that_ships():
    graph = read_graph()
    assert names(graph) == ["safety", "sim_bridge", "planner", "policy"]
    assert [node.name for node in graph.nodes if node.last_to_stop] == ["safety"]
    nice = {node.name: node.nice for node in graph.nodes}
    assert nice["planner"] == 10 and nice["safety"] == -10
    assert graph.environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SYSTEM_DEFAULT"
    assert "<address>127.0.0.1</address>" in Path(graph.environment["FASTRTPS_DEFAULT_PROFILES_FILE"]).read_text()
    assert parameters(graph, "planner")["weights"] == "mini"
    gate = parameters(graph, "safety")
    assert gate["robot"] == "panda_sim" and gate["estop_file"] == "~/.emu_robot/{namespace}/{robot}.estop"


def test_a_real_arm_must_be_named_and_brings_its_drivers():
    with pytest.raises(ConfigError, match=r"robot= is missing for the graph arm; one of .*ur5e"):
        read_graph("arm")
    graph = read_graph("arm", settings={"robot": "ur5e"})
    assert names(graph) == ["safety", "planner", "policy"]
    assert not graph.environment
    assert Path(graph.usual_environment["FASTRTPS_DEFAULT_PROFILES_FILE"]).name == "fastdds_udp.xml"


def test_a_robot_s_own_file_is_given_as_a_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mine.yaml").write_text((ROBOTS / "ur5e.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    found = parameters(read_graph("arm", settings={"robot": "mine.yaml"}), "safety")
    assert found["robot"] == str(tmp_path / "mine.yaml")


@pytest.mark.parametrize(("typed", "found", "label"), [("left", "/left", "left/safety"), ("/", "", "safety")])
def test_a_namespace_holds_for_all_nodes(tmp_path: Path, typed: str, found: str, label: str):
    path = tmp_path / "mine.yaml"
    path.write_text("graphs: {mine: {nodes: [safety], namespace: lab/mine}}\nnodes: {safety: }\n")
    usual, changed = read_graph("mine", file=path), read_graph("mine", namespace=typed, file=path)
    assert usual.namespace == "/lab/mine" and usual.label(usual.nodes[0]) == "lab/mine/safety"
    assert changed.namespace == found and changed.label(changed.nodes[0]) == label
    path.write_text("graphs: {mine: {nodes: [safety], namespace: 7up}}\nnodes: {safety: }\n")
    with pytest.raises(ConfigError, match=r"mine.yaml: graphs.mine.namespace='7up': must be letters, digits"):
        read_graph("mine", file=path)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("", ["safety", "sim_bridge", "planner", "policy"]),
        ("+recorder,-planner", ["safety", "sim_bridge", "policy", "recorder"]),
        ("safety, teleop,safety", ["safety", "teleop"]),
    ],
)
def test_nodes_are_chosen_by_name(wanted: str, found: list[str]):
    assert names(read_graph(nodes=wanted)) == found


def test_what_is_typed_becomes_what_the_node_declares():
    typed = {"sim_bridge.seed": "3", "sim_bridge.camera_hz": "30", "sim_bridge.families": "7", "safety.max_jump": "1"}
    knobs = {"planner.confirmations": "3", "planner.n_action_steps": "4", "policy.noise_scale": "1"}
    graph = read_graph(settings={**typed, **knobs, "safety.max_rejections": "3"})
    bridge = parameters(graph, "sim_bridge")
    assert bridge["seed"] == 3 and bridge["families"] == "7"
    gate = parameters(graph, "safety")
    assert isinstance(bridge["camera_hz"], float) and isinstance(gate["max_jump"], float)
    assert gate["max_rejections"] == 3 and isinstance(gate["max_rejections"], int)
    planner, policy = parameters(graph, "planner"), parameters(graph, "policy")
    assert (planner["confirmations"], planner["n_action_steps"], policy["noise_scale"]) == (3, 4, 1.0)
    words = next(node.ros_arguments("/left") for node in graph.nodes if node.name == "sim_bridge")
    assert words[:3] == ["--ros-args", "-r", "__ns:=/left"]
    assert 'families:="7"' in words and "seed:=3" in words and "camera_hz:=30.0" in words


@pytest.mark.parametrize(
    ("graph", "nodes", "settings", "said"),
    [
        ("lab", "", {}, "unknown graph 'lab'; known: sim, arm"),
        ("sim", "camera", {}, "unknown node 'camera'; known: safety, sim_bridge"),
        ("sim", "+teleop,policy", {}, r"nodes=\+teleop,policy: either names alone, or each with"),
        ("sim", "-safety,-sim_bridge,-planner,-policy", {}, "no node is left"),
        ("sim", "", {"wieghts": "mini"}, "unknown setting 'wieghts'; known: robot, weights, safety.<parameter>"),
        ("arm", "", {"robot": "ur5e", "sim_bridge.seed": "1"}, "unknown node in sim_bridge.seed= 'sim_bridge'"),
        ("sim", "", {"safety.max_jmup": "1"}, "unknown parameter of safety 'max_jmup'; known: control_hz"),
        ("sim", "", {"safety.blend_s": "99"}, r"safety.blend_s is 99.0, must lie in \[0, 1\]"),
        ("sim", "", {"planner.dwell": "0"}, r"replan.dwell is 0, must lie in \[1, 100\]"),
        ("sim", "", {"policy.flow_steps": "1.5"}, "policy.flow_steps=1.5: must be a whole number"),
        ("sim", "", {"sim_bridge.seed": "1.5"}, "sim_bridge.seed=1.5: must be a whole number"),
        ("sim", "", {"sim_bridge.seed": "["}, "sim_bridge.seed=.: must be a whole number"),
        ("sim", "", {"robot": "kuka"}, "unknown robot 'kuka'; known: franka_fr3"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(graph: str, nodes: str, settings: dict[str, str], said: str):
    with pytest.raises(EmuRobotError, match=said):
        read_graph(graph, nodes=nodes, settings=settings)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("graphs.sim.nodes", ["safety", "camera"], "graphs.sim.nodes: unknown node 'camera'; known: safety"),
        ("graphs.sim.nodes", "safety", "graphs.sim.nodes is 'safety', must be a list of names"),
        ("graphs.sim.arguments", {"speed": "1"}, "graphs.sim.arguments: unknown argument 'speed'; known: robot"),
        ("graphs.arm", {}, "graphs.arm.nodes is missing"),
        ("nodes.planner.nice", "10", "nodes.planner.nice is '10', must be a whole number"),
        ("nodes.planner.nice", True, "nodes.planner.nice is True, must be a whole number"),
        ("nodes.planner.niceness", 10, "nodes.planner: unknown key 'niceness'; known: arguments, parameters, nice"),
        ("nodes.planner.arguments", ["weight"], "nodes.planner.arguments: unknown argument 'weight'"),
        ("nodes.safety.parameters", {"estop_file": None}, "nodes.safety.parameters.estop_file is None, must be"),
        ("environment.ROS_DOMAIN_ID", 3, "environment.ROS_DOMAIN_ID is 3, must be text"),
        ("graph", {}, "the file: unknown key 'graph'; known: environment, arguments, graphs, nodes"),
        ("nodes", [], "nodes is [], must be a mapping"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, key: str, value: object, said: str):
    values = yaml.safe_load(graph_path().read_text())
    *parents, last = key.split(".")
    part = values
    for parent in parents:
        part = part[parent]
    part[last] = value
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    with pytest.raises(ConfigError) as found:
        read_graph(file=path)
    assert str(found.value).startswith(f"{path}: {said}")


def test_lists_are_typed_with_commas(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("graphs: {mine: {nodes: [arm]}}\nnodes: {arm: {parameters: {scale: [1.0], axes: [a]}}}\n")
    (node,) = read_graph("mine", settings={"arm.scale": "2,0.5", "arm.axes": "[b, 7]"}, file=path).nodes
    assert node.parameters == {"scale": [2.0, 0.5], "axes": ["b", "7"]}
    assert node.ros_arguments()[-3:] == ["scale:=[2.0, 0.5]", "-p", 'axes:=["b", "7"]']
    with pytest.raises(EmuRobotError, match="arm.scale=x: must be a number"):
        read_graph("mine", settings={"arm.scale": "1,x"}, file=path)
    path.write_text("graphs: {mine: {nodes: [arm]}}\nnodes: {arm: {parameters: {scale: [1.0, a]}}}\n")
    with pytest.raises(ConfigError, match="nodes.arm.parameters.scale is .* must be a list of values of one type"):
        read_graph("mine", file=path)


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("graphs: [")
    with pytest.raises(ConfigError, match=r"mine.yaml: not YAML"):
        read_graph_file(path)


def test_the_file_of_a_sourced_workspace_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    share = tmp_path / "share/emu_robot_ros/config"
    share.mkdir(parents=True)
    (share / "graph.yaml").write_text("graphs: {mine: {nodes: [safety]}}\nnodes: {safety: }\n")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    assert names(read_graph("mine")) == ["safety"]
    with pytest.raises(UnknownNameError, match="known: mine"):
        read_graph("sim")
