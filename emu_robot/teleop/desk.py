"""The desk at which operators' devices leave what they want. One operator drives at a time; anyone may stop the arm.

Threads of pages and devices write, the control loop reads. Times are seconds of one steady clock.
"""

import math
import threading
from dataclasses import dataclass
from enum import StrEnum

from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_robot.teleop.hand import Wish

SILENCE_S = 3.0
"""Silence after which an operator has left. The arm holds long before."""
MOST_WAITING = 256
"""Messages between two ticks beyond which older ones are left out."""
LONGEST_TEXT = 200
"""Characters of a text that an operator may send."""


class OrderKind(StrEnum):
    """What an operator may order beside driving."""

    START = "start"
    """Record an episode."""
    SUCCESS = "success"
    """End it: the task is done."""
    FAILURE = "failure"
    """End it: the task failed. The text is the cause."""
    DISCARD = "discard"
    """Forget the running episode, and lay its scene again."""
    NEXT = "next"
    """The next subtask begins. The text is its words; empty: the next one of the scene."""
    FLAG = "flag"
    """Note something about this moment."""
    TASK = "task"
    """Change the words of the task."""
    SCENE = "scene"
    """Lay another scene."""
    GRIPPER = "gripper"
    """Open the gripper, or close it."""
    STOP = "stop"
    """Brake and hold until resumed. Anyone may."""
    RESUME = "resume"
    """Allow motion again after a stop."""
    PAUSE = "pause"
    """Pause the policy, or let it go on."""
    TAKE = "take"
    """Take the arm over from the policy."""
    CORRECT = "correct"
    """Begin to correct the policy, or end it."""
    SUBTASK = "subtask"
    """Let the policy pursue this subtask. The text is its words; empty: the planner's again."""
    RELEASE = "release"
    """Leave the desk to another operator."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """One order."""

    kind: OrderKind
    """What to do."""
    text: str = ""
    """Words that belong to it."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a device said at one moment."""

    at: float
    """When it arrived [s]."""
    pressed: bool
    """Whether the deadman is held."""
    wish: Wish
    """The wanted motion."""
    number: int = 0
    """The device's own number of this message, to measure delays."""


def read_order(kind: object, text: object) -> Order:
    """An order from a page. Raises `UnknownNameError` or `InvalidValueError`."""
    if kind not in list(OrderKind):
        raise UnknownNameError("order", kind, OrderKind)
    if not isinstance(text, str) or len(text) > LONGEST_TEXT:
        raise InvalidValueError(f"the text of {kind!r} must be text of at most {LONGEST_TEXT} characters")
    return Order(kind=OrderKind(kind), text=" ".join(text.split()))


class Desk:
    """Keeps samples and orders for the control loop, and knows who drives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: list[Sample] = []
        self._orders: list[Order] = []
        self._holder: str | None = None
        self._heard_at = -math.inf

    def holder(self, now: float) -> str | None:
        """Who drives; None if the desk is free."""
        with self._lock:
            return self._holder_at(now)

    def drive(self, operator: str, sample: Sample) -> str:
        """Take a sample. Returns why it is refused, "" if it is taken. The first press takes a free desk."""
        with self._lock:
            holder = self._holder_at(sample.at)
            if holder is None:
                if not sample.pressed:
                    return ""
                self._holder = operator
            elif holder != operator:
                return f"{holder} has the arm; wait until it is handed over" if sample.pressed else ""
            self._heard_at = sample.at
            self._samples = [*self._samples[-MOST_WAITING:], sample]
            return ""

    def order(self, operator: str, order: Order, now: float) -> str:
        """Take an order. Returns why it is refused, "" if it is taken. A stop is always taken."""
        with self._lock:
            holder = self._holder_at(now)
            if order.kind is not OrderKind.STOP and holder not in (None, operator):
                return f"{holder} has the arm; only a stop is taken from others"
            if order.kind is OrderKind.RELEASE:
                self._let_go(now)
                return ""
            if len(self._orders) >= MOST_WAITING and order.kind is not OrderKind.STOP:
                return "too many orders wait"
            self._orders.append(order)
            return ""

    def leave(self, operator: str, now: float) -> None:
        """An operator's device is gone: the deadman counts as released."""
        with self._lock:
            if self._holder == operator:
                self._let_go(now)

    def take(self) -> tuple[list[Sample], list[Order]]:
        """What has come since the last call. For the control loop."""
        with self._lock:
            samples, orders = self._samples, self._orders
            self._samples, self._orders = [], []
            return samples, orders

    def _let_go(self, now: float) -> None:
        self._samples.append(Sample(at=now, pressed=False, wish=Wish()))
        self._holder = None

    def _holder_at(self, now: float) -> str | None:
        if self._holder is not None and now - self._heard_at > SILENCE_S:
            self._holder = None
        return self._holder
