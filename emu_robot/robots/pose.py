"""Places of a tool in space, and turns as vectors: the direction is the axis, the length the angle [rad]."""

from dataclasses import dataclass

import numpy as np

from emu_robot.core import Floats
from emu_robot.errors import ShapeError

SMALL = 1e-9
"""Angle below which a turn has no axis [rad]."""


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where a tool is, in the frame of the arm's base. Raises `ShapeError`."""

    position: Floats
    """(3,) place [m]."""
    rotation: Floats
    """(3, 3) axes of the tool as columns, R_base_tool."""

    def __post_init__(self) -> None:
        if self.position.shape != (3,) or self.rotation.shape != (3, 3):
            raise ShapeError("pose", (self.position.shape, self.rotation.shape), "(3,) and (3, 3)")

    def moved(self, step: Floats, turn: Floats) -> "Pose":
        """This pose after a step (3,) [m] and a turn (3,) [rad], both along the axes of the base."""
        return Pose(position=self.position + step, rotation=turned(turn) @ self.rotation)

    def way_to(self, other: "Pose") -> tuple[Floats, Floats]:
        """The step (3,) [m] and the turn (3,) [rad] that lead from this pose to another: the inverse of `moved`."""
        return other.position - self.position, turn_of(other.rotation @ self.rotation.T)


def turned(turn: Floats) -> Floats:
    """The rotation (3, 3) by a turn (3,) [rad]."""
    angle = float(np.linalg.norm(turn))
    if angle < SMALL:
        return np.eye(3)
    x, y, z = turn / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def turn_of(rotation: Floats) -> Floats:
    """The turn (3,) [rad], at most half of one, of a rotation (3, 3)."""
    twice_sine = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    sine, cosine = float(np.linalg.norm(twice_sine)) / 2, (float(np.trace(rotation)) - 1) / 2
    angle = float(np.arctan2(sine, cosine))
    if sine > 1e-6:
        return twice_sine / (2 * sine) * angle
    if cosine > 0:
        return twice_sine / 2
    half = (rotation + np.eye(3)) / 2  # half a turn: every column is along the axis
    axis = half[:, int(np.argmax(np.diag(half)))]
    return axis / np.linalg.norm(axis) * np.pi


def capped(vector: Floats, most: float) -> Floats:
    """The vector, shortened to `most` if it is longer."""
    length = float(np.linalg.norm(vector))
    return vector if length <= most else vector * (most / length)
