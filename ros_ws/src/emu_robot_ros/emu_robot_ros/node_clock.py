"""A node's clock together with the steady clock."""

import time
from collections import deque
from statistics import median

from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node

from emu_robot.observation.freshness import Moment

KEPT_STEPS = 9
"""Number of steps of a simulated clock that are kept. Their median is its usual step, also after it was set."""


class NodeClock:
    """Reads both clocks. A simulated clock moves by a step with every message on /clock."""

    def __init__(self, node: Node) -> None:
        self._clock = node.get_clock()
        self._steps: deque[float] = deque(maxlen=KEPT_STEPS)
        every = JumpThreshold(min_forward=Duration(nanoseconds=1), min_backward=None, on_clock_change=False)
        self._handle = self._clock.create_jump_callback(every, post_callback=self._on_step)

    def now(self) -> Moment:
        """The present time on both clocks. May be called from any thread."""
        steps = list(self._steps)
        stamped = 1e-9 * self._clock.now().nanoseconds
        return Moment(stamped, time.monotonic(), median(steps) if steps else 0.0)

    def destroy(self) -> None:
        """Stop listening to the clock."""
        self._handle.unregister()

    def _on_step(self, jump: TimeJump) -> None:
        self._steps.append(1e-9 * jump.delta.nanoseconds)
