"""Several nodes in one process, spun by the test that made them."""

import gc
import time
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.action import ActionClient, ActionServer
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node


class Graph:
    """Nodes in the namespace /left, spun by the test itself; `node` is the gate's."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._nodes: list[Node] = []
        self.node = self.add("safety")

    def add(self, name: str, **options: Any) -> Node:
        node = Node(name, namespace="/left", context=self.context, **options)
        self._executor.add_node(node)
        self._nodes.append(node)
        return node

    def remove(self, node: Node) -> None:
        self._executor.remove_node(node)
        self._nodes.remove(node)
        for action in list(node.waitables):  # a goal under way keeps them, and other tests would see them in the graph
            if isinstance(action, (ActionClient, ActionServer)):
                action.destroy()
        node.destroy_node()

    def until(self, condition: Callable[[], object], what: str, act: Callable[[], None] = lambda: None) -> None:
        """Spins, and acts every 50 ms, until the condition holds."""
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, f"waited for {what}"
            act()
            until = time.monotonic() + 0.05
            while time.monotonic() < until:
                self._executor.spin_once(timeout_sec=0.01)

    def close(self) -> None:
        for node in list(self._nodes):
            self.remove(node)
        self._executor.shutdown()
        rclpy.shutdown(context=self.context)
        gc.collect()  # else cycles keep action servers in the graph, where other tests see them
