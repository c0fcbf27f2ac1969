"""A headset's controller as an operator's device: squeezed, it carries the tool along. Numpy only; knows no page."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from emu_robot.errors import InvalidValueError
from emu_robot.robots.pose import Pose
from emu_robot.teleop.clutch import Clutch, Pulse
from emu_robot.teleop.desk import Sample
from emu_robot.teleop.keys import is_number, to_base
from emu_robot.teleop.smoothing import PoseFilter

UNIT = 0.01
"""Farthest that the length of a quaternion may be from 1."""


class Controller:
    """Makes samples of its poses. Each hold counts from where controller and arm were when it began."""

    def __init__(self) -> None:
        self._clutch = Clutch()
        self._filter: PoseFilter | None = None

    def hold(self, pose: Pose, target: Pose, now: float, *, grip: float, number: int) -> Sample:
        """It is squeezed, and at `pose`. target: where the arm is wanted now. grip: 1 opens, -1 closes, 0 neither.

        Raises `InvalidValueError` for a pose at no place.
        """
        self._clutch.hear(Pulse(held=True, number=number), now)
        if self._filter is None:
            self._clutch.grab(pose, target)
            self._filter = PoseFilter(pose, now)
        else:
            self._clutch.drag(self._filter.smooth(pose, now))
        sample = self._clutch.sample()
        return replace(sample, wish=replace(sample.wish, grip=grip))

    def let_go(self, now: float) -> None:
        """It is squeezed no more."""
        self._clutch.hear(Pulse(held=False), now)
        self._clutch.let_go()
        self._filter = None


def read_pose(message: Mapping[str, Any], *, faces_arm: bool) -> Pose | None:
    """The pose of a controller from a page's message, along the axes of the arm's base; None if it has none.

    `hand` is x, y, z [m] and a unit quaternion x, y, z, w, along the operator's right, away and up.

    Raises `InvalidValueError` for anything else.
    """
    values = message.get("hand")
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != 7 or not all(map(is_number, values)):
        raise InvalidValueError(f"hand is {str(values)[:60]!r}, must be seven finite numbers")
    place, vector, w = np.array(values[:3], np.float64), np.array(values[3:6], np.float64), float(values[6])
    length = float(np.linalg.norm([*vector, w]))
    if not abs(length - 1.0) < UNIT:
        raise InvalidValueError(f"the quaternion of hand has length {length:.3g}, must have 1")
    x, y, z = to_base(vector, faces_arm=faces_arm) / length
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    rotation = np.eye(3) + 2 * (w / length) * cross + 2 * cross @ cross
    return Pose(position=to_base(place, faces_arm=faces_arm), rotation=rotation)
