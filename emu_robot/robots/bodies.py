"""Rigid bodies as surfaces, for pages that draw an arm and its surroundings. Knows no simulator."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats, Floats32


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """Triangles of one colour."""

    vertices: Floats32
    """(V, 3) corners in the frame of the body [m]."""
    faces: NDArray[np.uint32]
    """(F, 3) three corners each, counter-clockwise from outside."""
    rgb: tuple[float, float, float]
    """Colour, each part in [0, 1]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Body:
    """A rigid body."""

    name: str
    """Its name, unique among the bodies of a scene."""
    surfaces: tuple[Surface, ...]
    """What is seen of it."""


@runtime_checkable
class ShowsBodies(Protocol):
    """An arm that a page can draw in space. The frame is that of its base."""

    @property
    def bodies(self) -> tuple[Body, ...]:
        """The bodies of the present scene: the same tuple until the scene is laid again."""
        ...

    @property
    def body_poses(self) -> Floats:
        """(B, 7) where they are: place [m], then the turn as a quaternion w, x, y, z."""
        ...
