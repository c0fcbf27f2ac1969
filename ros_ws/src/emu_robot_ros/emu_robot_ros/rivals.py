"""Finds nodes beside the safety gate that could command the robot, on any interface of the same controller.

The controller's name is its command topic or action without the last part.
"""

from collections.abc import Iterable

from rclpy._rclpy_pybind11 import RCLError
from rclpy.action import get_action_client_names_and_types_by_node
from rclpy.node import Node, NodeNameNonExistentError

TOPICS = ("commands", "joint_trajectory", "joint_references", "reference")
"""Command topics of ros2_control's controllers, below the controller's name."""
ACTIONS = ("follow_joint_trajectory", "gripper_action", "gripper_cmd", "grasp", "homing", "move")
"""Command actions below the controller's name; the last three are the Franka hand's."""


def rivals(node: Node, interface: str, owner: tuple[str, str] | None = None) -> str:
    """Nodes beside the owner that could command the controller, in words; empty if there are none.

    interface: command topic or action of the controller; `node` resolves relative names.
    owner: name and namespace of the node that may command; None for `node` itself.
    """
    own, (name, space) = node.resolve_topic_name(interface), owner or (node.get_name(), node.get_namespace())
    controller = own.rpartition("/")[0]
    topics = dict.fromkeys([own, *(f"{controller}/{name}" for name in TOPICS)])
    actions = dict.fromkeys([own, *(f"{controller}/{name}" for name in ACTIONS)])
    found = [_other_publishers(node, topic, _full_name(space, name)) for topic in topics]
    found += [_other_clients(node, action, name, space) for action in actions]
    return "; ".join(filter(None, found))


def _other_publishers(node: Node, topic: str, owner: str) -> str:
    ends = node.get_publishers_info_by_topic(topic)
    names = [_full_name(end.node_namespace, end.node_name) for end in ends]
    others = len(ends) - (owner in names)
    return _words(topic, len(ends), "publisher", names) if others else ""


def _other_clients(node: Node, action: str, owner: str, space: str) -> str:
    count = node.count_clients(f"{action}/_action/send_goal")
    if count == _is_client(node, action, owner, space):
        return ""
    nodes = node.get_node_names_and_namespaces()
    names = [_full_name(there, name) for name, there in nodes if _is_client(node, action, name, there)]
    return _words(action, count, "client", names)


def _is_client(node: Node, action: str, name: str, space: str) -> bool:
    try:
        return action in dict(get_action_client_names_and_types_by_node(node, name, space))
    except (NodeNameNonExistentError, RCLError):  # it has not yet begun, or has just ended
        return False


def _words(interface: str, count: int, kind: str, names: Iterable[str]) -> str:
    """The message about an interface. names: all nodes that are known to have this end, the gate included."""
    known = ", ".join(sorted(names)) or "nodes unknown"
    return f"{interface} has {count} {kind}{'s' * (count > 1)} ({known}), only the safety gate may command the robot"


def _full_name(space: str, name: str) -> str:
    return f"{space.rstrip('/')}/{name}"
