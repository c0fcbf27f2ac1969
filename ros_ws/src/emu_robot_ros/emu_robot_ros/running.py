"""Runs a node as a process: spin until told to end, then take it down in order."""

import inspect
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.experimental.events_executor import EventsExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from emu_robot_ros.starting import ending, report

LOOK_S = 0.1
"""Time between two checks of a quiet node whether it was told to end [s]."""
FAREWELL_S = 0.2
"""How long a deactivated node still answers, so that clients hear that their tasks have ended [s]."""
type Transition = Callable[[LifecycleState], TransitionCallbackReturn]


def run_node(make_node: Callable[[], LifecycleNode], *, awaits: bool = False) -> None:
    """Make the node, spin it until SIGINT, SIGTERM or SIGHUP, and take it down. rclpy's own handlers are not used: they
    would destroy the context under a callback that is publishing.

    awaits: whether callbacks are coroutines that wait. Only rclpy's usual executor resumes these; the events executor
    takes half the time for a callback.

    With the parameter `autostart` (true by default) the node configures and activates itself; if it cannot, the process
    ends with status 1. An exception of a callback becomes one line and status 1. In every case an active node is
    deactivated first, and a second signal does not cut that short.
    """
    ending.listen()
    ending.interrupts()
    node, executor = None, None
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        executor = SingleThreadedExecutor() if awaits else EventsExecutor()
        node = _reporting(make_node())
        failed = [] if awaits else _collecting(node)
        executor.add_node(node)
        _spin(node, executor, failed)
    except Exception as error:
        report(error)
        sys.exit(1)
    finally:
        ending.is_noted()
        if node is not None and executor is not None:
            _take_down(node, executor)
        rclpy.try_shutdown()


def _spin(node: LifecycleNode, executor: Any, failed: list[Exception]) -> None:
    """Spin until told to end. Before the activation a signal ends the process: there is nothing to deactivate.

    Raises the exceptions of callbacks. failed: exceptions that the executor does not raise itself.
    """
    starts_itself = node.declare_parameter("autostart", True).value
    if starts_itself and node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
        sys.exit(1)  # the node has logged the reason
    ending.is_noted()
    if starts_itself and not ending.told and node.trigger_activate() != TransitionCallbackReturn.SUCCESS:
        sys.exit(1)
    while not ending.told:
        executor.spin_once(timeout_sec=LOOK_S)
        if failed:
            raise failed[0]


def _take_down(node: LifecycleNode, executor: Any) -> None:
    if node._state_machine.current_state[1] == "active":
        node.trigger_deactivate()
    until = time.monotonic() + FAREWELL_S
    with suppress(Exception):  # an error that ends the node was reported before
        while time.monotonic() < until:
            executor.spin_once(timeout_sec=FAREWELL_S / 10)
    executor.remove_node(node)
    node.destroy_node()


def _reporting(node: LifecycleNode) -> LifecycleNode:
    """Make the node report exceptions of its transitions, which rclpy drops. Returns the node."""
    node._callbacks = {number: _said(act) for number, act in node._callbacks.items()}
    return node


def _collecting(node: LifecycleNode) -> list[Exception]:
    """A list that collects exceptions of callbacks created from now on; the events executor would print tracebacks."""
    failed: list[Exception] = []

    def guarded(act: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(act)
        def wrapped(*given: Any) -> Any:
            try:
                return act(*given)
            except Exception as error:
                failed.append(error)

        return wrapped

    def guarding(create: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            bound = inspect.signature(create).bind(*given, **named)
            bound.arguments["callback"] = guarded(bound.arguments["callback"])
            return create(*bound.args, **bound.kwargs)

        return wrapped

    for name in ("create_timer", "create_subscription", "create_service"):
        setattr(node, name, guarding(getattr(node, name)))
    return failed


def _said(act: Transition) -> Transition:
    def wrapped(state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return act(state)
        except Exception as error:
            report(error)
            raise

    return wrapped
