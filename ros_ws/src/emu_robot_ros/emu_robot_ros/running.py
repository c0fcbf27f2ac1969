"""From a node to a process: spin until told to stop, take down in order."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import rclpy
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.experimental.events_executor import EventsExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

LOOK_S = 0.1
"""How often a quiet node looks whether it was told to stop."""
FAREWELL_S = 0.2
"""How long a node that was shut down may still answer."""


def run_node(make_node: Callable[[], LifecycleNode], *, awaits: bool = False) -> None:
    """Make the node, spin it until SIGINT or SIGTERM, shut it down, destroy it. rclpy's own handlers would take away
    the context under a callback that is publishing.

    awaits: whether its callbacks are coroutines that wait for something. These only rclpy's usual executor resumes; the
    other one, of events, takes half the time for a callback.

    With its parameter `autostart` (true by default) it configures and activates itself, and the process ends with
    status 1 where it cannot; else someone does it, as in any lifecycle node.
    """
    told: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: told.append(number))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node, executor = None, SingleThreadedExecutor() if awaits else EventsExecutor()
    try:
        node = make_node()
        executor.add_node(node)
        if node.declare_parameter("autostart", True).value:
            for step in (node.trigger_configure, node.trigger_activate):
                if step() != TransitionCallbackReturn.SUCCESS:
                    sys.exit(1)  # the node has said why
        while not told:
            executor.spin_once(timeout_sec=LOOK_S)
        _shut_down(node, executor)
    finally:
        if node is not None:
            executor.remove_node(node)
            node.destroy_node()
        rclpy.try_shutdown()
    if threading.active_count() > 1:
        os._exit(0)  # the interpreter's own end would wait for a thread that still computes


def _shut_down(node: LifecycleNode, executor: Executor) -> None:
    """Have it end what it does, and let go out what it has to say about that, such as results of goals."""
    with suppress(rclpy_implementation.RCLError):  # somebody has shut it down already
        node.trigger_shutdown()
    until = time.monotonic() + FAREWELL_S
    while time.monotonic() < until:
        executor.spin_once(timeout_sec=FAREWELL_S / 10)
