"""Nodes of a test in a context of their own, spun by a thread."""

import threading

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node


class SpunNodes:
    """A context. Make nodes in it, then `spin` them; `close` ends all."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)

    def spin(self, *nodes: Node) -> None:
        """Spin the nodes from now on, in another thread."""
        self._nodes = nodes
        self.executor = SingleThreadedExecutor(context=self.context)
        for node in nodes:
            self.executor.add_node(node)
        self._thread = threading.Thread(target=self.executor.spin, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop spinning."""
        self.executor.shutdown()
        self._thread.join(5)

    def close(self) -> None:
        """Stop spinning, and end the nodes and their context."""
        self.stop()
        for node in self._nodes:
            node.destroy_node()
        rclpy.shutdown(context=self.context)
