"""A page's handle in space as an operator's device. Numpy only; knows no page.

The handle drives while it is dragged and the page says, again and again, that the finger or button is down. A drag
counts from where the arm was when it began, so that nothing jumps.
"""

import math
import threading
from dataclasses import dataclass

import numpy as np

from emu_robot.errors import InvalidValueError
from emu_robot.robots.pose import Pose
from emu_robot.teleop.desk import Sample
from emu_robot.teleop.hand import Wish

FARTHEST_M = 10.0
"""Distance from the base beyond which a handle is refused [m]."""


FIRST_M, FIRST_RAD = 0.03, 0.3
"""Farthest that the first step of a drag may lead [m], [rad]. A handle that is farther away was grabbed there, before
it had come back to the arm.
"""


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """What a page says of its operator at one moment."""

    held: bool
    """Whether a finger or button is down."""
    goes_home: bool = False
    """Whether the way home is held."""
    grips: bool = False
    """Whether the gripper is given time to move."""
    number: int = 0
    """The page's own number of this message."""


class Clutch:
    """Makes samples of drags and pulses, which come from two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._grabbed: tuple[Pose, Pose] | None = None
        self._goal: Pose | None = None
        self._pulse, self._heard_at = Pulse(held=False), -math.inf

    @property
    def is_dragged(self) -> bool:
        """Whether the handle is held."""
        return self._grabbed is not None

    def grab(self, handle: Pose, target: Pose) -> None:
        """A drag begins. target: where the arm is wanted now; it moves from there as the handle does."""
        _check(handle)
        with self._lock:
            self._grabbed, self._goal = (handle, target), target

    def drag(self, handle: Pose) -> None:
        """The handle is elsewhere. Without a drag it says nothing. Raises `InvalidValueError`."""
        _check(handle)
        with self._lock:
            if self._grabbed is None:
                return
            before, target = self._grabbed
            step, turn = before.way_to(handle)
            if self._goal is target and (np.linalg.norm(step) > FIRST_M or np.linalg.norm(turn) > FIRST_RAD):
                self._grabbed = handle, target
            else:
                self._goal = target.moved(step, turn)

    def let_go(self) -> None:
        """The drag is over."""
        with self._lock:
            self._grabbed = self._goal = None

    def hear(self, pulse: Pulse, now: float) -> None:
        """The page is alive. A finger that was lifted ends the drag, whether or not its end is heard of."""
        with self._lock:
            if self._pulse.held and not pulse.held:
                self._grabbed = self._goal = None
            self._pulse, self._heard_at = pulse, now

    def sample(self) -> Sample:
        """What the operator wants. Its time is that of the last pulse: a drag alone keeps nothing alive."""
        with self._lock:
            pulse, goal = self._pulse, self._goal if self._pulse.held else None
            pressed = goal is not None or pulse.goes_home or pulse.grips
            wish = Wish(goal=goal, goes_home=pulse.goes_home)
            return Sample(at=self._heard_at, pressed=pressed, wish=wish, number=pulse.number)


def _check(handle: Pose) -> None:
    numbers = np.concatenate([handle.position, handle.rotation.ravel()])
    if not np.isfinite(numbers).all() or np.abs(handle.position).max() > FARTHEST_M:
        raise InvalidValueError(f"the handle is at {handle.position}, must be within {FARTHEST_M:g} m")
