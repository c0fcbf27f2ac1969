"""Names of dimensions and cameras in a LeRobotDataset, in all known forms, and our names for them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from emu_robot.data.episode import is_camera_name

IMAGE_PREFIX = "observation.images."


def dimension_names(names: Any, width: int) -> list[str] | None:
    """The names of a feature's `width` dimensions; None without names or for another number of them.

    Known forms: lists, lists of lists, {"motors": [...]} and {name: index, ...}. Names may repeat.
    """
    if isinstance(names, dict) and sorted(map(str, names.values())) == sorted(map(str, range(len(names)))):
        names = sorted(names, key=lambda name: int(names[name]))
    flat = list(_flat(names))
    return flat if len(flat) == width else None


def _flat(names: Any) -> Iterable[str]:
    if isinstance(names, dict):
        for group, inner in names.items():
            yield from _flat(group if isinstance(inner, int) else inner)
    elif isinstance(names, (list, tuple)):
        for inner in names:
            yield from _flat(inner)
    elif names is not None:
        yield str(names)


def accepted_features(cameras: Mapping[str, str]) -> dict[str, list[str]]:
    """Our name of each camera -> the features under which its picture may come, the set's own first.

    cameras: our name -> the set's feature. The others are observation.images.<the set's name>, the same with our name
    and, for the only camera, observation.image. A feature that another camera has in the set belongs to that one.
    """
    taken = set(cameras.values())
    accepted = {ours: [feature] for ours, feature in cameras.items()}
    for ours, feature in cameras.items():
        theirs = feature.removeprefix(IMAGE_PREFIX).removeprefix("observation.")
        others = [IMAGE_PREFIX + theirs, IMAGE_PREFIX + ours, *(["observation.image"] if len(cameras) == 1 else [])]
        for other in dict.fromkeys(others):
            if other not in taken:
                accepted[ours].append(other)
                taken.add(other)
    return accepted


def camera_names(features: Iterable[str]) -> dict[str, str]:
    """Our name of each camera -> its feature; observation.images.top -> top, observation.image -> observation_image.

    A name that our files reserve, or that two features would share, becomes another one.
    """
    features = list(features)
    ours: dict[str, str] = {}
    for feature in sorted(features, key=lambda feature: feature.removeprefix(IMAGE_PREFIX)):
        name = re.sub(r"[^A-Za-z0-9_-]", "_", feature.removeprefix(IMAGE_PREFIX)) or "camera"
        name = name if is_camera_name(name) else f"camera_{name}"
        endings = ("", *(f"_{i}" for i in range(2, len(features) + 1)))
        ours[next(name + ending for ending in endings if name + ending not in ours)] = feature
    return dict(sorted(ours.items(), key=lambda pair: features.index(pair[1])))
