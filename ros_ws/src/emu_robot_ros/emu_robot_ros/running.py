"""From a node to a process: spin until told to stop, take down in order."""

import signal
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode


def run_node(make_node: Callable[[], LifecycleNode]) -> None:
    """Make the node, spin it until SIGINT or SIGTERM, destroy it; a second signal does not cut the taking down short.

    With its parameter `autostart` (true by default) it configures and activates itself; else someone does it, as in any
    lifecycle node.
    """
    rclpy.init()
    node, executor = None, SingleThreadedExecutor()
    try:
        node = make_node()
        executor.add_node(node)
        if node.declare_parameter("autostart", True).value:
            node.trigger_configure()
            node.trigger_activate()
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if node is not None:
            executor.remove_node(node)
            node.destroy_node()
        rclpy.try_shutdown()
