"""Finds an object of known colour in a picture, to compare a reconstruction or a prediction with the truth.

Pixels are (u, v): column, row. An object's colour is its difference from grey (the mean is subtracted), so that shading
and blur matter little.
"""

from typing import NamedTuple

import numpy as np

from emu_robot.core import Floats, Image

LOST = 0.3
"""An object of less than this fraction of its true colour mass counts as lost."""


class Sighting(NamedTuple):
    """The centroid uv (2,) [px] of the object's colour, and its mass, the sum of the pixels' weights."""

    uv: Floats
    mass: float


def colour_at(image: Image, uv: tuple[float, float]) -> Floats:
    """(3,) the median colour of the 6 most coloured of 5 x 5 pixels, minus its grey part (a can's lid is grey)."""
    u, v = round(uv[0]), round(uv[1])
    patch = image[max(0, v - 2) : v + 3, max(0, u - 2) : u + 3].reshape(-1, 3).astype(np.float64)
    hues = patch - patch.mean(axis=1, keepdims=True)
    strongest = np.argsort(-np.linalg.norm(hues, axis=1), kind="stable")[:6]
    return np.median(hues[strongest], axis=0)


def sight(image: Image, colour: Floats, near: tuple[float, float], radius: float) -> Sighting | None:
    """The centroid of `colour` within `radius` [px] of `near`; None where the colour is absent.

    A pixel's weight rises from 0 at half the colour's strength to 1 at its full strength; other hues weigh nothing.
    """
    strength = np.linalg.norm(colour)
    if strength < 1:
        return None
    u0, v0 = max(0, int(near[0] - radius)), max(0, int(near[1] - radius))
    window = image[v0 : int(near[1] + radius) + 1, u0 : int(near[0] + radius) + 1].astype(np.float64)
    if window.size == 0:
        return None
    window -= window.mean(axis=2, keepdims=True)
    along = window @ (colour / strength)
    hue = along / np.maximum(np.linalg.norm(window, axis=2), 1e-6)
    weights = np.clip(2 * along / strength - 1, 0, 1) * (hue > 0.85)
    v, u = np.mgrid[v0 : v0 + window.shape[0], u0 : u0 + window.shape[1]]
    weights *= np.hypot(u - near[0], v - near[1]) <= radius
    mass = float(weights.sum())
    if mass == 0:
        return None
    return Sighting(np.array([(weights * u).sum(), (weights * v).sum()]) / mass, mass)


def position_error(true: Image, other: Image, uv: tuple[float, float], radius: float = 9.0) -> float | None:
    """Distance [px] that the object at `uv` of `true` has moved in `other`; `radius` if it is lost there.

    None if the true picture itself does not show the object by its colour.
    """
    colour = colour_at(true, uv)
    seen = sight(true, colour, uv, radius)
    if seen is None:
        return None
    again = sight(other, colour, uv, radius)
    if again is None or again.mass < LOST * seen.mass:
        return radius
    return float(np.linalg.norm(again.uv - seen.uv))
