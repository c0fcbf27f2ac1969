"""Robots' files: those that ship are sound; any other one is, or is refused in one line that names file and key."""

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from robots import APART, HAND_APART, SIX, SIX_JOINTS, changed, robot_with

from emu_robot.errors import ConfigError, UnknownNameError
from emu_robot.robots.deployment import ROBOTS, Deployment, deployments, parse_deployment, read_deployment
from emu_robot.robots.parts import BRAKING_S, MOST_POSITION
from emu_robot.robots.spec import PANDA

SHIPPED = {name: (ROBOTS / f"{name}.yaml").read_text() for name in deployments()}


def check_sound(robot: Deployment) -> None:
    """Every number finite and in its range, every name its own, everything of the same length."""
    joints, limits, n = robot.joints, robot.limits, len(robot.joints.names)
    for values in (joints.lower, joints.upper, joints.velocity, joints.acceleration):
        assert len(values) == n and all(type(value) in (int, float) and math.isfinite(value) for value in values)
    size = n + (robot.gripper is not None)
    assert len(robot.dimension_names) == len(set(robot.dimension_names)) == len(limits.lower) == size
    assert (limits.lower < limits.upper).all() and np.abs([limits.lower, limits.upper]).max() <= MOST_POSITION
    assert (limits.velocity > 0).all() and (limits.velocity / limits.acceleration <= BRAKING_S).all()
    topics = [topic.removeprefix("/") for topic in robot.topics.values()]
    assert len(set(topics)) == len(topics) and not any(" " in topic or topic.endswith("/") for topic in topics)
    assert robot.planner_camera in robot.cameras and all(name.isidentifier() for name in robot.cameras)
    assert not robot.command_joints or sorted(robot.command_joints) == sorted(joints.names)
    if robot.gripper is not None:
        ends = [robot.gripper.position(opening) for opening in (0.0, 0.3, 1.0)]
        assert [robot.gripper.opening(end) for end in ends] == pytest.approx([0.0, 0.3, 1.0])


@pytest.mark.parametrize("name", deployments())
def test_every_robot_that_ships_is_complete(name: str):
    robot = read_deployment(name)
    check_sound(robot)
    assert robot.name == name and robot.gripper is not None and len(robot.joints.source) > 20


def test_the_simulated_panda_is_the_policy_s():
    robot = read_deployment("panda_sim")
    assert robot.joints.lower == PANDA.joint_lower and robot.joints.upper == PANDA.joint_upper
    assert set(robot.cameras) == set(PANDA.cameras) and robot.planner_camera == PANDA.planner_camera
    assert np.isin(PANDA.joint_names, robot.joints.names).all()


# -- robots without gripper, and others


@pytest.mark.parametrize("addition", ["", "gripper:\n", "gripper: null\n"])
def test_a_robot_may_have_no_gripper(addition: str):
    robot = parse_deployment(SIX_JOINTS + addition, "mine.yaml")
    check_sound(robot)
    assert robot == SIX and robot.gripper is None
    assert robot.dimension_names == robot.joints.names and robot.n_joints == 6
    np.testing.assert_array_equal(robot.limits.acceleration, robot.joints.acceleration)
    assert robot.joint_state_topics == ("/joint_states",) and list(robot.topics)[:2] == [
        "command_topic",
        "joint_states",
    ]


def test_a_gripper_may_have_joint_states_of_its_own():
    check_sound(APART)
    assert APART.dimension_names == (*SIX.joints.names, "finger") and APART.n_joints == 6
    assert APART.joint_state_topics == ("/joint_states", "/hand/joint_states")
    assert APART.topics["gripper.joint_states"] == "/hand/joint_states"
    assert APART.limits.upper[-1] == 1.0 and APART.limits.acceleration[-1] == 40.0


def test_positions_go_out_in_the_controller_s_order():
    order = ["elbow", "shoulder", "base", "wrist_3", "wrist_2", "wrist_1"]
    text = changed(changed(SIX_JOINTS, "kind", "positions"), "command_joints", order)
    assert parse_deployment(text, "it").command_joints == tuple(order)


@pytest.mark.parametrize(
    ("topic", "controller"),
    [("/arm_controller/joint_trajectory", "/arm_controller"), ("left/arm/commands", "left/arm"), ("/commands", "")],
)
def test_a_controller_is_named_by_its_topic(topic: str, controller: str):
    robot = robot_with("command_topic", topic)
    assert robot.controller == controller and robot.gripper is not None
    assert robot.gripper.controller == "/hand_controller"


def test_weights_for_another_robot_are_refused_naming_both_lists():
    SIX.require_actions([f"{name}.pos" for name in SIX.joints.names], 0)
    APART.require_actions([f"j{i}" for i in range(6)] + ["gripper.pos"], 1)
    APART.require_actions([f"j{i}" for i in range(7)], 0)  # learned as if it were a joint
    with pytest.raises(ConfigError) as found:
        SIX.require_actions(["x", "y", "gripper"], 1)
    has = "six has 6: base, shoulder, elbow, wrist_1, wrist_2, wrist_3 and no gripper"
    assert str(found.value) == f"the weights act on 3 dimensions: x, y, gripper; {has}"
    with pytest.raises(ConfigError, match="and no gripper"):  # as many numbers, the last of which is no angle
        SIX.require_actions(["a", "b", "c", "d", "e", "gripper"], 1)
    with pytest.raises(ConfigError, match=r"h, the last 2 grippers; apart has 7: base, .*, finger$"):
        APART.require_actions(list("abcdefh"), 2)


# -- what is refused

SIX_TIMES = {name: [number] * 6 for name, number in {"low": -1.0, "zero": 0.0}.items()}
REFUSED: list[tuple[str, Any, str]] = [
    ("name", "", "name is '', must be text of 1 to 100 characters"),
    ("name", 5, "name is 5, must be text; write it in quotes"),
    ("name", None, "name is null, must be text"),
    ("name", "../lab", "name is '../lab', must begin with a letter or digit and hold only those and _ . -"),
    ("name", "x" * 101, "must be text of 1 to 100 characters"),
    ("joints", 3, "joints is 3, must be a mapping"),
    ("joints", None, "joints is null, must be a mapping"),
    ("joints", [], "joints is [], must be a mapping"),
    ("joints.speed", [1.0], "unknown key 'joints.speed'; known: names, lower, upper, velocity, acceleration, source"),
    ("joints.names", [], "joints.names has 0 names, must have 1 to 64"),
    ("joints.names", "base", "joints.names is 'base', must be a list of names"),
    ("joints.names", [f"j{i}" for i in range(65)], "joints.names has 65 names, must have 1 to 64"),
    ("joints.names", ["a", "b", "c", "d", "a", "f"], "joints.names[4] is 'a', as is joints.names[0]; each needs"),
    ("joints.names", ["a", "b", "", "d", "e", "f"], "joints.names[2] is '', must be text of 1 to 100"),
    ("joints.names", ["a", "b", "c ", "d", "e", "f"], "joints.names[2] is 'c ', must be printable and without a space"),
    ("joints.names", ["a", "b", "c\nd", "d", "e", "f"], "joints.names[2] is 'c\\nd', must be printable"),
    ("joints.names", ["a", "b", True, "d", "e", "f"], "joints.names[2] is True, must be text; write it in quotes"),
    ("joints.names", ["a", "b", ["c"], "d", "e", "f"], "joints.names[2] is ['c'], must be text"),
    ("joints.names", ["a", "b", None, "d", "e", "f"], "joints.names[2] is null, must be text"),
    ("joints.lower", [1.0], "joints.lower has 1 values for 6 joints"),
    ("joints.lower", [-1.0] * 7, "joints.lower has 7 values for 6 joints"),
    ("joints.lower", {"a": 1.0}, "joints.lower is {'a': 1.0}, must be a list of numbers"),
    ("joints.lower", -1.0, "joints.lower is -1.0, must be a list of numbers"),
    ("joints.lower", None, "joints.lower is null, must be a list of numbers"),
    ("joints.lower", [-1.0, "-1.0", *[-1.0] * 4], "joints.lower[1] (shoulder) is '-1.0', must be a number; YAML takes"),
    ("joints.lower", [-1.0, "1e3", *[-1.0] * 4], "is '1e3', must be a number; YAML takes it as text, write 1000.0"),
    ("joints.lower", [-1.0, "low", *[-1.0] * 4], "joints.lower[1] (shoulder) is 'low', must be a number"),
    ("joints.lower", [False, *[-1.0] * 5], "joints.lower[0] (base) is False, must be a number"),
    ("joints.lower", [None, *[-1.0] * 5], "joints.lower[0] (base) is null, must be a number"),
    ("joints.lower", [[-1.0], *[-1.0] * 5], "joints.lower[0] (base) is [-1.0], must be a number"),
    ("joints.lower", [math.nan, *[-1.0] * 5], "joints.lower[0] (base) is nan, must lie in [-12.6, 12.6] rad"),
    ("joints.lower", [-math.inf, *[-1.0] * 5], "joints.lower[0] (base) is -inf, must lie in"),
    ("joints.lower", [-180, -90.0, *[-1.0] * 4], "joints.lower[0] (base) is -180, must lie in [-12.6, 12.6] rad "
     "(in degrees?)"),
    ("joints.upper", [1.0, 10**400, *[1.0] * 4], "joints.upper[1] (shoulder) is a whole number of 1329 bits, must lie"),
    ("joints.upper", [1.0, 1e300, *[1.0] * 4], "joints.upper[1] (shoulder) is 1e+300, must lie in"),
    ("joints.upper", [1.0, -2.0, *[1.0] * 4], "joints.lower[1] (shoulder) is -2, must be below joints.upper, which"),
    ("joints.upper", [1.0, -2.5, *[1.0] * 4], "joints.lower[1] (shoulder) is -2, must be below joints.upper, which"),
    ("joints.velocity", [180.0] * 6, "joints.velocity[0] (base) is 180.0, must lie in [0.001, 50] rad/s (in degrees?)"),
    ("joints.velocity", [1.0, 0, *[1.0] * 4], "joints.velocity[1] (shoulder) is 0, must lie in [0.001, 50] rad/s"),
    ("joints.velocity", [1.0, -1.0, *[1.0] * 4], "joints.velocity[1] (shoulder) is -1.0, must lie in"),
    ("joints.velocity", [1.0, 1e-9, *[1.0] * 4], "joints.velocity[1] (shoulder) is 1e-09, must lie in"),
    ("joints.velocity", [1.0, math.inf, *[1.0] * 4], "joints.velocity[1] (shoulder) is inf, must lie in"),
    ("joints.acceleration", [1e9] * 6, "joints.acceleration[0] (base) is 1000000000.0, must lie in [0.001, 1000]"),
    ("joints.acceleration", [0.0] * 6, "joints.acceleration[0] (base) is 0.0, must lie in"),
    ("joints.acceleration", [-4.0] * 6, "joints.acceleration[0] (base) is -4.0, must lie in"),
    ("joints.acceleration", [4.0, 0.05, *[4.0] * 4], "joints.acceleration[1] (shoulder) is 0.05, stops the joint from "
     "1 rad/s in 20 s, must do so within 10 s"),
    ("joints.source", 2024, "joints.source is 2024, must be text; write it in quotes"),
    ("joints.source", " \n", "joints.source is ' \\n', must be text of 1 to 1000 characters"),
    ("gripper", "hand", "gripper is 'hand', must be a mapping"),
    ("gripper", [], "gripper is [], must be a mapping"),
    ("gripper", {}, "gripper.joint, gripper.closed, gripper.open, gripper.topic are missing"),
    ("gripper.joint", "elbow", "gripper.joint is 'elbow', a joint of the arm; it must be the gripper's own"),
    ("gripper.joint", "", "gripper.joint is '', must be text"),
    ("gripper.joint", ["finger"], "gripper.joint is ['finger'], must be text"),
    ("gripper.closed", math.nan, "gripper.closed is nan, must lie in [-10000, 10000]"),
    ("gripper.closed", "0", "gripper.closed is '0', must be a number; YAML takes it as text, write 0.0"),
    ("gripper.open", math.inf, "gripper.open is inf, must lie in"),
    ("gripper.open", 1.7e308, "gripper.open is 1.7e+308, must lie in"),
    ("gripper.open", [1.0], "gripper.open is [1.0], must be a number"),
    ("gripper.open", 0.0, "gripper.closed, 0, and gripper.open, 0, are the same"),
    ("gripper.open", 1e-320, "gripper.closed, 0, and gripper.open, 9.99989e-321, are less than 0.0001 apart"),
    ("gripper.speed", 0, "gripper.speed is 0, must lie in [0.01, 100] 1/s"),
    ("gripper.speed", True, "gripper.speed is True, must be a number"),
    ("gripper.speed", 1e9, "gripper.speed is 1000000000.0, must lie in"),
    ("gripper.kind", "suction", "unknown gripper.kind 'suction'; known: trajectory, positions, gripper_command"),
    ("gripper.kind", None, "gripper.kind is null, must be text"),
    ("gripper.joint_states", "/joint_states", "gripper.joint_states is 'joint_states', as is joint_states; each"),
    ("gripper.joint_states", "joint_states", "gripper.joint_states is 'joint_states', as is joint_states; each"),
    ("gripper.joint_states", " ", "gripper.joint_states is ' ', must be a topic's name"),
    ("gripper.joint_states", None, "gripper.joint_states is null, must be a topic's name"),
    ("gripper.topic", "/arm_controller/joint_trajectory", "gripper.topic is 'arm_controller/joint_trajectory', as is "
     "command_topic; each needs its own"),
    ("command_topic", "/joint_states", "joint_states is 'joint_states', as is command_topic; each needs its own"),
    ("kind", "torque", "unknown kind 'torque'; known: trajectory, positions"),
    ("kind", "gripper_command", "unknown kind 'gripper_command'; known: trajectory, positions"),
    ("kind", ["positions"], "kind is ['positions'], must be text"),
    ("cameras", None, "cameras is null, must map 1 to 16 names to image topics"),
    ("cameras", {}, "cameras is {}, must map 1 to 16 names"),
    ("cameras", ["/front"], "cameras is ['/front'], must map 1 to 16 names"),
    ("cameras", {f"c{i}": f"/c{i}" for i in range(17)}, "must map 1 to 16 names to image topics"),
    ("cameras", {"front": "/a", "side": "/a"}, "cameras.side is 'a', as is cameras.front; each needs its own"),
    ("cameras", {"front": "/a", "side": "a"}, "cameras.side is 'a', as is cameras.front; each needs its own"),
    ("cameras", {"front": "/joint_states"}, "cameras.front is 'joint_states', as is joint_states; each needs its own"),
    ("cameras", {"front": "/a", "left side": "/b"}, "cameras has the camera 'left side', its name must hold letters"),
    ("cameras", {"front": "/a", "2nd": "/b"}, "cameras has the camera '2nd', its name must"),
    ("cameras", {"front": "/a", 2: "/b"}, "cameras is 2, must be text; write it in quotes"),
    ("cameras", {"front": "/a", "": "/b"}, "cameras is '', must be text"),
    ("cameras", {"front": "/a", "vör": "/b"}, "cameras has the camera 'vör', its name must"),
    ("planner_camera", "top", "unknown planner_camera 'top'; known: front"),
    ("planner_camera", None, "planner_camera is null, must be text"),
    ("planner_camera", ["front"], "planner_camera is ['front'], must be text"),
    ("camera", "top", "unknown key 'camera'; known: name, joints, gripper, command_topic, cameras, planner_camera"),
    ("command_joints", ["base"], "command_joints is given, kind is trajectory, which names its joints; leave it out"),
    ("command_joints", "base", "command_joints is 'base', must be a list of names"),
    ("command_joints", [3], "command_joints[0] is 3, must be text"),
]  # fmt: skip
TOPICS = ["", " ", "/", "a/", "/a//b", "a b", "/1a", "a/2", "~/a", "/a-b", "a.b", "{ns}/a", "a\n", "/ä", "x" * 201]


@pytest.mark.parametrize(("key", "value", "said"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_wrong_in_a_file_is_named(key: str, value: Any, said: str):
    with pytest.raises(ConfigError) as found:
        robot_with(key, value)
    message = str(found.value)
    assert message.startswith("mine.yaml: ") and said in message
    assert len(message.splitlines()) == 1 and len(message) < 400


@pytest.mark.parametrize(
    "key", ["command_topic", "joint_states", "gripper.topic", "gripper.joint_states", "cameras.front"]
)
@pytest.mark.parametrize("topic", [*TOPICS, None, 3, True, ["/a"], {"a": "b"}])
def test_a_topic_that_is_none_is_named(key: str, topic: Any):
    if (key, topic) == ("gripper.joint_states", ""):
        return
    with pytest.raises(
        ConfigError, match=f"mine.yaml: {key} is .*must be a topic's name: letters, digits and _, parts"
    ):
        robot_with(key, topic)


@pytest.mark.parametrize("topic", ["/a", "a", "_a/B_2", "/left/arm_1/joint_states"])
def test_topics_may_be_absolute_or_relative(topic: str):
    assert robot_with("command_topic", topic).command_topic == topic


@pytest.mark.parametrize(
    "order", [["base"], ["base"] * 6, ["base", "shoulder", "elbow", "wrist_1", "wrist_2", "finger"]]
)
def test_a_controller_s_order_must_have_every_joint_once(order: list[str]):
    text = changed(changed(SIX_JOINTS, "kind", "positions"), "command_joints", order)
    with pytest.raises(ConfigError, match=r"command_joints is base.*; must have each of base, shoulder, .* once"):
        parse_deployment(text, "mine.yaml")


@pytest.mark.parametrize(
    ("name", "index"), [("lower", 1), ("upper", 1), ("velocity", 1), ("acceleration", 1), ("names", 0), ("source", 0)]
)
def test_a_missing_key_is_named(name: str, index: int):
    values = yaml.safe_load(HAND_APART)
    del values["joints"][name]
    with pytest.raises(ConfigError, match=f"mine.yaml: joints.{name} is missing"):
        parse_deployment(yaml.safe_dump(values), "mine.yaml")


def test_a_missing_key_of_the_file_and_a_missing_file_are_named():
    values = yaml.safe_load(HAND_APART)
    del values["name"], values["cameras"]
    with pytest.raises(ConfigError, match="mine.yaml: name, cameras are missing"):
        parse_deployment(yaml.safe_dump(values), "mine.yaml")
    with pytest.raises(ConfigError, match="mine.yaml: joints is missing"):
        parse_deployment("name: a", "mine.yaml")
    with pytest.raises(UnknownNameError, match="unknown robot 'kuka'; known: franka_fr3"):
        read_deployment("kuka")


# -- anything else that may come

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**30), 0, 1e308, -1e308, 5e-324, 1e9, 1e-9, 180.0, math.nan, math.inf, -math.inf]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", " ", "1e3", "/a//b", "a b", "\n", "joint1", "front", "trajectory", "positions", "nan"]),
    st.binary(max_size=5),
    st.dates(),
)
TREES = st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD.filter(lambda key: key == key), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["names", "lower", "joint", "kind", "front", "command_joints", "joint_states", "gripper", "extra"]
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A robot's file with one to three values replaced, taken away, doubled or added, and perhaps its text cut up."""
    values = yaml.safe_load(draw(st.sampled_from([*SHIPPED.values(), SIX_JOINTS, HAND_APART])))
    for _ in range(draw(st.integers(1, 3))):
        mutate(draw, values)
    text = yaml.safe_dump(values, allow_unicode=draw(st.booleans()), sort_keys=False)
    if draw(st.integers(0, 3)) == 0:
        at, until = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        text = text[:at] + draw(st.text(max_size=4) | st.just(text[at:until] * 2)) + text[until:]
    return text


def mutate(draw: st.DrawFn, part: Any) -> None:
    while True:
        places = list(part) if isinstance(part, dict) else list(range(len(part)))
        if not places:
            return
        place = draw(st.sampled_from(places))
        if not isinstance(part[place], dict | list) or draw(st.integers(0, 3)) == 0:
            break
        part = part[place]
    what = draw(st.sampled_from(["replace", "remove", "double", "add"]))
    if what == "remove":
        del part[place]
    elif what == "double" and isinstance(part, list):
        part.append(part[place])
    elif what == "add" and isinstance(part, dict):
        part[draw(KEYS)] = draw(TREES)
    else:
        part[place] = draw(TREES)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(text=mutated() | TREES.map(lambda tree: yaml.safe_dump(tree)) | st.text(max_size=40))
@example(text="!!binary x")
@example(text="? [a]\n: b")
@example(text="{a: !!set {b}, c: !!omap [d: e], f: !!pairs [g: h]}")
@example(text="a: 1:60:" + "60:" * 200 + "0.5")
@example(text=SIX_JOINTS.replace("-3.0", "0x" + "f" * 5000, 1))
def test_any_text_is_a_sound_robot_or_an_error_of_one_line(text: str):
    try:
        robot = parse_deployment(text, "mine.yaml")
    except (ConfigError, UnknownNameError) as error:
        assert str(error).startswith("mine.yaml: ") and len(str(error).splitlines()) == 1
        assert len(str(error)) < 600
        return
    check_sound(robot)


def test_a_robot_made_in_python_is_checked_like_a_file():
    values = {field.name: getattr(SIX, field.name) for field in fields(SIX)}
    for key, value in {
        "name": "",
        "kind": "x",
        "command_topic": "a b",
        "cameras": {"a": 3},
        "joint_states": "",
    }.items():
        with pytest.raises((ConfigError, UnknownNameError), match=key):
            Deployment(**{**values, key: value})
    parts = {field.name: getattr(SIX.joints, field.name) for field in fields(SIX.joints)}
    lower = tuple(np.float64(value) for value in SIX.joints.lower)
    assert type(SIX.joints)(**{**parts, "lower": lower}) == SIX.joints
