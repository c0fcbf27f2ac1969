"""Which namespaces ROS 2 allows, and where names lie in them."""

import pytest

from emu_robot.errors import ConfigError
from emu_robot.robots.ros_names import MOST_CHARACTERS, absolute, node_label, read_namespace


@pytest.mark.parametrize(
    ("given", "found"),
    [("", ""), ("/", ""), ("left", "/left"), ("/left", "/left"), ("lab/left_2", "/lab/left_2"), ("_a/b", "/_a/b")],
)
def test_relative_and_absolute_ones_mean_the_same(given: str, found: str):
    assert read_namespace(given) == found == read_namespace(found)


@pytest.mark.parametrize(
    "given",
    ["left/", "//left", "a//b", "7up", "a/7up", "left arm", "left-arm", "~", "{ns}", "ärm", "left\n", "a" * 151],
)
def test_others_are_refused_in_one_line(given: str):
    with pytest.raises(ConfigError, match="namespace=.* must ") as found:
        read_namespace(given)
    assert len(str(found.value).encode()) < 200 + len(given)


def test_the_longest_leaves_room_for_topics():
    assert len(read_namespace("a" * MOST_CHARACTERS)) + 90 < 247


def test_relative_names_lie_in_the_namespace_and_absolute_ones_do_not():
    assert absolute("joint_states", "/left") == "/left/joint_states" and absolute("joint_states", "") == "/joint_states"
    assert absolute("/joint_states", "/left") == "/joint_states"
    assert node_label("safety", "") == "safety" and node_label("safety", "/lab/left") == "lab/left/safety"
