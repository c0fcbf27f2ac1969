"""What a tokenizer names in the codes of a picture, against what is there. Knows no models."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emu_robot.evaluation.statistics import Proportion
from emu_robot.tokenizers.object_naming import SeenObject

LOST_RADIUS = 9.0
"""Largest distance of a centre from where the object is, at 128 px [px]."""


def naming_figures(
    objects: Sequence[Mapping[str, tuple[float, float]]], seen: Sequence[Sequence[SeenObject]], size: int
) -> dict[str, Any]:
    """Shares of the objects that are named, that have another name, and that are not seen; share of the seen that are
    not there; and median distance of the named ones [px].

    objects: visible objects of each picture -> (u, v) [px] in a picture of `size` px. seen: what was named in it. Only
    names of objects count, not those of places.
    """
    names = {name for there in objects for name in there}
    named = confused = invented = claims = total = 0
    distances: list[float] = []
    for there, claimed in zip(objects, seen, strict=True):
        places = [(one.name, size * one.u, size * one.v) for one in claimed if one.name in names]
        claims, total = claims + len(places), total + len(there)
        for name, uv in there.items():
            near = {other: _distance(uv, place) for other, *place in places if _distance(uv, place) < LOST_RADIUS}
            named += name in near
            confused += bool(near) and name not in near
            distances += [near[name]] if name in near else []
        invented += sum(all(_distance(uv, place) >= LOST_RADIUS for uv in there.values()) for _name, *place in places)
    return {
        "named": str(Proportion(named, total)),
        "confused": str(Proportion(confused, total)),
        "unseen": str(Proportion(total - named - confused, total)),
        "invented": str(Proportion(invented, claims)),
        "median": float(np.median(distances)) if distances else None,
    }


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    return float(np.hypot(one[0] - other[0], one[1] - other[1]))
