"""docs/DEPLOY.md says what the code does: parameters, states, refusals, names, keys, commands."""

import importlib.util
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from state_diagram import SEEN_BY_THE_NODE, Edges, drawn_transitions

from emu_robot.cli.main import VERBS
from emu_robot.control.safety import ChunkMessage, EstopLatch, GateState, Rejection, SafetyConfig, SafetyGate
from emu_robot.deploy.graph import SETTINGS_OF, read_graph
from emu_robot.deploy.graph_file import graph_path, read_graph_file
from emu_robot.errors import InvalidValueError
from emu_robot.policy.config import PolicyConfig
from emu_robot.robots.deployment import COMMAND_KINDS, Deployment, Gripper, Joints, deployments
from emu_robot.robots.limits import MotionLimits
from emu_robot.shared.settings import field_docs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/DEPLOY.md").read_text()
TWO = np.ones(2)
LIMITS = MotionLimits(lower=-TWO, upper=TWO, velocity=TWO, acceleration=10 * TWO)
INTERFACES = ROOT / "ros_ws/src/emu_robot_interfaces"


def test_every_parameter_of_the_gate_is_in_the_table_as_it_is():
    docs = field_docs(SafetyConfig)
    rows = [
        f"| `{one.name}` | {one.default:g} | {one.metadata['low']:g} to {one.metadata['high']:g} | {docs[one.name]} |"
        for one in fields(SafetyConfig)
    ]
    table = PAGE.partition("## Parameters of the safety gate")[2].partition("\n\nBeside them")[0]
    assert [line for line in table.splitlines() if line.startswith("| `")] == rows
    parameters = next(node.parameters for node in read_graph().nodes if node.name == "safety")
    assert all(f"`{name}`" in PAGE for name in parameters)


def test_every_parameter_of_planner_and_policy_is_in_the_table_as_it_is():
    nodes = {"n_action_steps": "`planner`, `policy`"}
    nodes |= {one.name: f"`{node}`" for node in ("planner", "policy") for one in fields(SETTINGS_OF[node])}
    rows = [
        f"| {nodes[one.name]} | `{one.name}` | {one.default:g} | {one.metadata['low']:g} to {one.metadata['high']:g} "
        f"| {field_docs(kind)[one.name]} |"
        for kind in (PolicyConfig, SETTINGS_OF["planner"], SETTINGS_OF["policy"])
        for one in fields(kind)
        if one.name in nodes
    ]
    section = PAGE.partition("## Parameters of planner and policy")[2].partition("## ")[0]
    assert [line for line in section.splitlines() if line.startswith("| `")] == rows
    for node in read_graph().nodes:
        if node.name in ("planner", "policy"):
            assert all(f"`{name}`" in section for name in node.parameters)
            assert node.parameters["n_action_steps"] == PolicyConfig().n_action_steps


def gate(state: GateState, latch: EstopLatch | None = None) -> SafetyGate:
    """In this state at time 0, its joint states fresh."""
    made = SafetyGate(config=SafetyConfig(max_rejections=2), limits=LIMITS, joints=1, latch=latch)
    for when in (-0.3, -0.2, -0.1, 0.0):
        made.on_state(np.zeros(2), when)
    if state is not GateState.DISARMED:
        made.arm(-0.01)
    if state is GateState.TRACKING:
        send(made, 0.0, 1)
    elif state is GateState.FAULT:
        made.fault("a test")
    elif state is GateState.ESTOP:
        made.estop("a test")
    made.tick(0.0)
    assert made.state is state
    return made


def send(to: SafetyGate, value: float, sequence: int, source: str = "policy") -> None:
    actions = np.full((4, 2), value)
    to.offer(ChunkMessage(session=1, sequence=sequence, captured=0.0, dt=0.05, actions=actions, source=source), 0.0)


def two_wrong_chunks(to: SafetyGate) -> None:
    send(to, np.nan, 2)
    send(to, np.nan, 3)


def later(seconds: float, *, with_state: bool) -> Callable[[SafetyGate], object]:
    def act(to: SafetyGate) -> None:
        for now in np.linspace(0, seconds, int(seconds / 0.04) + 2)[1:].tolist():
            if with_state:
                to.on_state(np.zeros(2), now)
            to.tick(now)

    return act


def released(to: SafetyGate) -> None:
    """Driven by hand, until the switch is let go."""
    to.on_deadman(True, 0.0)
    send(to, 0.0, 2, "teleop")
    to.on_deadman(False, 0.0)
    to.tick(0.0)


DOINGS: dict[str, Callable[[SafetyGate], object]] = {
    "arm": lambda to: to.arm(0.0),
    "disarm": lambda to: to.disarm(0.0),
    "estop": lambda to: to.estop("a test"),
    "reset_estop": lambda to: to.reset(0.0),
    "chunk accepted": lambda to: send(to, 0.0, 2),
    "wrong chunk": lambda to: send(to, np.nan, 2),
    "policy stopped": lambda to: to.on_idle(1, 0.0),
    "silence": later(0.16, with_state=True),
    "stale joint states": later(0.12, with_state=False),
    "no action left": lambda to: (to.on_heartbeat(1, 0.3), later(0.3, with_state=True)(to)),
    "deadman released": released,
    "wrong chunks": two_wrong_chunks,
    "no driver": later(3.0, with_state=False),
    "not following": lambda to: (to.on_state(np.full(2, 0.9), 0.09), to.tick(0.09)),
}
"""Labels of the diagram, and what they mean."""


def test_the_diagram_is_the_gate(tmp_path: Path):
    drawn = drawn_transitions()
    labels = {label for (start, _), these in drawn.items() if start != "[*]" for label in these}
    assert labels == set(DOINGS) | SEEN_BY_THE_NODE
    found: Edges = {("[*]", gate(GateState.DISARMED).state.value): {""}}
    EstopLatch(tmp_path / "estop").set("before")
    restarted = SafetyGate(
        config=SafetyConfig(),
        limits=LIMITS,
        joints=1,
        latch=EstopLatch(tmp_path / "estop"),
    )
    found["[*]", restarted.state.value] = {"a stop was kept over the restart"}
    for state in GateState:
        for label, act in DOINGS.items():
            there = gate(state)
            try:
                act(there)
            except InvalidValueError as error:
                assert there.state is state, error
            if there.state is not state:
                found.setdefault((state.value, there.state.value), set()).add(label)
    assert found == {ends: these - SEEN_BY_THE_NODE for ends, these in drawn.items()}


@pytest.mark.parametrize("rejection", Rejection)
def test_every_refusal_is_told_with_what_follows(rejection: Rejection):
    harmless, _, wrong = PAGE.partition("A chunk is refused, and motion goes on")[2].partition("and the robot holds")
    there = harmless if rejection.is_harmless else wrong.partition("##")[0]
    assert f"`{rejection.value}`" in " ".join(there.split())


def test_every_name_of_the_graph_and_every_interface_is_listed():
    path = ROOT / "ros_ws/src/emu_robot_ros/emu_robot_ros/topics.py"
    spec = importlib.util.spec_from_file_location("topics", path)
    assert spec is not None and spec.loader is not None
    topics = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(topics)
    table = PAGE.partition("## Topics, services, actions")[2].partition("## Parameters")[0]
    names = {value for name, value in vars(topics).items() if name.isupper()}
    assert {name for name in names if f"`{name}`" not in table} == set()
    interfaces = [path.stem for kind in ("msg", "srv", "action") for path in INTERFACES.glob(f"{kind}/*")]
    assert [name for name in interfaces if f"emu_robot_interfaces/{name}`" not in table] == []


def test_every_key_of_a_robot_s_file_is_explained():
    keys = [field.name for field in fields(Deployment) if field.name not in ("joints", "gripper")]
    keys += [f"joints.{field.name}" for field in fields(Joints)] + [
        f"gripper.{field.name}" for field in fields(Gripper)
    ]
    table = PAGE.partition("## Describe the robot")[2].partition("## Controllers")[0]
    assert [key for key in keys if f"`{key}`" not in table] == []
    assert all(f"`{name}`" in table for name in deployments())
    assert all(f"`{kind}`" in PAGE for kind in COMMAND_KINDS)


def test_commands_name_what_exists():
    described = read_graph_file(graph_path())
    for verb, rest in re.findall(r"emu-robot ([\w-]+)(.*)", PAGE):
        assert verb in VERBS
        for key, value in re.findall(r" (graph|nodes)=(\S+?)[\s`;]", rest + " "):
            known = {*described.graphs, "drivers"} if key == "graph" else set(described.nodes)
            assert {word.lstrip("+-") for word in value.split(",")} <= known
        for node, parameter in re.findall(r" (\w+)\.(\w+)=", rest):
            settings = fields(SETTINGS_OF[node]) if node in SETTINGS_OF else ()
            settable = {*described.nodes[node].parameters, *(one.name for one in settings)}
            assert parameter in settable
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists()
    headings = {
        re.sub(r"[^\w -]", "", line[3:]).lower().replace(" ", "-") for line in PAGE.splitlines() if line[:3] == "## "
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= headings
