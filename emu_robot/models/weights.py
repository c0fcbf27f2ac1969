"""Released weights: a folder with `manifest.json` and one safetensors file per stage, every file checked by hash.

manifest.json: {"format": 1, "stages": {stage: {"file", "sha256", "config", "extra"}}, "files": {name: sha256}}.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from emu_robot.errors import UnknownNameError, WeightsError
from emu_robot.shared.files import replace_bytes, replace_text

FORMAT = 1
MANIFEST = "manifest.json"
RELEASED = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True, kw_only=True)
class StageWeights:
    """One stage's weights.

    state: float32 tensors by state-dict name; config: what rebuilds the module; extra: whatever else the stage
    stored (normalisation statistics, metrics), JSON values.
    """

    state: dict[str, Tensor]
    config: dict[str, Any]
    extra: dict[str, Any]


def released_names() -> list[str]:
    """Names of the weights that ship with the package."""
    return sorted(path.parent.name for path in RELEASED.glob(f"*/{MANIFEST}"))


def resolve_weights(name: str | Path) -> Path:
    """The folder of released weights by name ("mini"), or of weights at a path. Raises `UnknownNameError`."""
    for folder in (RELEASED / name, Path(name)):
        if (folder / MANIFEST).is_file():
            return folder
    raise UnknownNameError("weights", str(name), [*released_names(), f"any folder with a {MANIFEST}"])


def save_weights(
    folder: Path,
    stage: str,
    state: Mapping[str, Tensor],
    config: Any,
    *,
    half: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write one stage and add it to the folder's manifest.

    config: a dataclass or a JSON dict. half: store floating tensors as float16. Other stages in the folder stay.
    """
    tensors = {}
    for name, tensor in state.items():
        value = tensor.detach().cpu()
        tensors[name] = (value.half() if half and value.is_floating_point() else value).contiguous().clone()
    blob = save(tensors)
    file = f"{stage}.safetensors"
    replace_bytes(Path(folder) / file, blob)
    entry = {
        "file": file,
        "sha256": hashlib.sha256(blob).hexdigest(),
        "config": dict(config) if isinstance(config, Mapping) else asdict(config),
        "extra": dict(extra or {}),
    }
    _update_manifest(Path(folder), "stages", stage, entry)


def save_file(folder: Path, name: str, content: bytes) -> None:
    """Write an accompanying file (such as `text.json`) and its hash."""
    replace_bytes(Path(folder) / name, content)
    _update_manifest(Path(folder), "files", name, hashlib.sha256(content).hexdigest())


def load_weights(folder: str | Path, stage: str) -> StageWeights:
    """Read and check one stage. Raises `WeightsError` naming the file, `UnknownNameError` for a stage not there."""
    folder = Path(folder)
    entry = read_stage(folder, stage)
    path = folder / entry["file"]
    state = load(_read_checked(path, entry["sha256"]))
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path}: {name} holds values that are not finite")
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    return StageWeights(state=state, config=entry["config"], extra=entry["extra"])


def load_file(folder: str | Path, name: str) -> bytes:
    """Read and check an accompanying file written by `save_file`."""
    folder = Path(folder)
    files = read_manifest(folder)["files"]
    if name not in files:
        raise UnknownNameError(f"file of the weights in {folder}", name, files)
    return _read_checked(folder / name, files[name])


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a weights folder; raises `WeightsError` when missing, damaged or of another format."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise WeightsError(f"no {MANIFEST} in {folder}") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise WeightsError(f"{path} is not a weights manifest of format {FORMAT}")
    return manifest


def copy_weights(source: Path, target: Path) -> None:
    """Copy a weights folder's manifest and the files it names."""
    manifest = read_manifest(source)
    target.mkdir(parents=True, exist_ok=True)
    for name in (*(stage["file"] for stage in manifest["stages"].values()), *manifest["files"], MANIFEST):
        shutil.copyfile(source / name, target / name)


def stage_config(folder: Path, stage: str) -> dict[str, Any]:
    """What rebuilds a stage's module, read without its weights. Raises `UnknownNameError` for a stage not there."""
    return read_stage(folder, stage)["config"]


def stage_hash(folder: Path, stage: str) -> str:
    """The sha256 of a stage's weights: says which weights something was made with."""
    return read_stage(folder, stage)["sha256"]


def load_into(module: torch.nn.Module, weights: StageWeights, what: str) -> None:
    """Load a stage's state into the module its config built; `WeightsError` when they do not fit."""
    try:
        module.load_state_dict(weights.state)
    except RuntimeError as error:
        raise WeightsError(f"{what} weights do not fit their config: {str(error).splitlines()[-1].strip()}") from error


def read_stage(folder: Path, stage: str) -> dict[str, Any]:
    """A stage's entry in the manifest, read without its weights. Raises `UnknownNameError` for a stage not there."""
    stages = read_manifest(folder)["stages"]
    if stage not in stages:
        raise UnknownNameError(f"stage of the weights in {folder}", stage, stages)
    return stages[stage]


def _read_checked(path: Path, sha256: str) -> bytes:
    if not path.is_file():
        raise WeightsError(f"{path} is missing")
    blob = path.read_bytes()
    if hashlib.sha256(blob).hexdigest() != sha256:
        raise WeightsError(f"{path} is corrupted: its sha256 differs from {MANIFEST}")
    return blob


def _update_manifest(folder: Path, section: str, name: str, entry: Any) -> None:
    exists = (folder / MANIFEST).exists()
    manifest = read_manifest(folder) if exists else {"format": FORMAT, "stages": {}, "files": {}}
    manifest[section][name] = entry
    replace_text(folder / MANIFEST, json.dumps(manifest, indent=1, default=str) + "\n")
