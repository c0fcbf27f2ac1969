"""Features of the LeRobotDatasets that we write; see `lerobot_export` for their meaning. Does not need LeRobot."""

from collections.abc import Mapping, Sequence
from typing import Any

LABELS: dict[str, dict[str, Any]] = {
    key: {"dtype": dtype, "shape": (1,), "names": None}
    for key, dtype in (("subtask_index", "int64"), ("keyframe", "int64"), ("next.success", "bool"))
}
"""Features of the labels that every frame has."""
LANGUAGE_FEATURE = {"language_persistent": {"dtype": "language", "shape": [1], "names": None}}
"""The annotation column, which is added after recording."""


def usual_features(
    state_names: Sequence[str], action_names: Sequence[str], images: Mapping[str, tuple[int, ...]]
) -> dict[str, dict[str, Any]]:
    """LeRobot's features of a robot; images: camera -> (height, width, 3)."""
    features: dict[str, dict[str, Any]] = {
        key: {"dtype": "float32", "shape": (len(names),), "names": list(names)}
        for key, names in (("observation.state", state_names), ("action", action_names))
    }
    for camera, shape in images.items():
        axes = ["height", "width", "channels"]
        features[f"observation.images.{camera}"] = {"dtype": "video", "shape": shape, "names": axes}
    return features
