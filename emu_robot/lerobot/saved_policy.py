"""Folders of saved policies: find one by name, and write what a training has fitted. Knows no batches."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from torch import Tensor

from emu_robot.lerobot.adapters import Fitted
from emu_robot.models.weights import released_names, resolve_weights, save_weights
from emu_robot.planner.planner import Planner


def find_policy(name_or_path: str | Path, **hub: Any) -> Path:
    """The folder of released weights ("mini"), of a local path, or of a hub id; hub: options of the download."""
    if str(name_or_path) in released_names():
        return resolve_weights(name_or_path)
    folder = Path(name_or_path)
    return folder if folder.is_dir() else Path(snapshot_download(str(name_or_path), **hub))


def save_fitted(
    folder: Path, state: Mapping[str, Tensor], fitted: Fitted, cameras: Mapping[str, str], planner: Planner | None
) -> None:
    """Write the head and, if given, the planner into a weights folder, in full precision.

    state: the policy's, with the prefixes "head." and "world_model.". cameras: our names -> the set's features.
    """
    extra = {"norm_stats": fitted.stats.to_dict(), "layout": asdict(fitted.layout), "control_hz": fitted.control_hz}
    extra |= {"camera_features": dict(cameras)}
    save_weights(folder, "head", _part(state, "head."), fitted.head, extra=extra)
    if planner is not None:
        planner.save(folder, half=False, state=_part(state, "world_model."))


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
