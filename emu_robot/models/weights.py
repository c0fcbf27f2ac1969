"""Released weights: a folder with `manifest.json` and one safetensors file per stage, every file checked by hash.

manifest.json: {"format": 1, "stages": {stage: {"file", "sha256", "config", "extra"}}, "files": {name: sha256}}.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from emu_robot.errors import UnknownNameError, WeightsError
from emu_robot.models.files import build, finite, plain_name, read_bytes, read_json, regular_file
from emu_robot.models.rounding import SCALE, restore_tensors, round_tensors
from emu_robot.shared.files import copy_file, replace_bytes, replace_text

FORMAT = 1
MANIFEST = "manifest.json"
RELEASED = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True, kw_only=True)
class StageWeights:
    """One stage's weights."""

    state: dict[str, Tensor]
    """State-dict name -> float32 tensor."""
    config: dict[str, Any]
    """Configuration that rebuilds the module."""
    extra: dict[str, Any]
    """Other JSON values of the stage, such as normalisation statistics and metrics."""
    source: str = "weights"
    """Where it was read, for messages."""

    def settings[T](self, schema: type[T]) -> T:
        """`config` as the given dataclass. Raises `WeightsError` naming the field that does not fit."""
        return build(schema, self.config, f"{self.source}: config")


def released_names() -> list[str]:
    """Names of the weights that ship with the package."""
    return sorted(path.parent.name for path in RELEASED.glob(f"*/{MANIFEST}"))


def resolve_weights(name: str | Path) -> Path:
    """The folder of weights, by released name ("mini") or path. Raises `UnknownNameError`."""
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
    values = {name: tensor.detach().cpu() for name, tensor in state.items()}
    if half:
        values = {name: value.half() if value.is_floating_point() else value for name, value in values.items()}
    _write_stage(Path(folder), stage, values, config if isinstance(config, Mapping) else asdict(config), extra or {})


def round_weights(folder: Path, stage: str) -> None:
    """Store a stage's matrices in 8 bits, see `models.rounding`. Its hash changes."""
    weights = load_weights(folder, stage)
    rounded = round_tensors(weights.state)
    small = {name: value.half() if _is_plain(name, value) else value for name, value in rounded.items()}
    _write_stage(folder, stage, small, weights.config, weights.extra)


def add_extra(folder: Path, stage: str, **extra: Any) -> None:
    """Add JSON values to what the manifest says of a stage. Raises `UnknownNameError` for a missing stage."""
    entry = read_stage(folder, stage)
    _update_manifest(Path(folder), "stages", stage, entry | {"extra": entry["extra"] | extra})


def save_file(folder: Path, name: str, content: bytes) -> None:
    """Write an accompanying file (such as `text.json`) and its hash."""
    replace_bytes(Path(folder) / name, content)
    _update_manifest(Path(folder), "files", name, hashlib.sha256(content).hexdigest())


def load_weights(folder: str | Path, stage: str) -> StageWeights:
    """Read and check one stage. Raises `WeightsError` naming the file, `UnknownNameError` for a missing stage."""
    folder = Path(folder)
    entry = read_stage(folder, stage)
    path = folder / entry["file"]
    try:
        state = load(_read_checked(path, entry["sha256"]))
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    for name, tensor in state.items():
        if tensor.is_floating_point():
            state[name] = finite(path, name, tensor).float()
    state = restore_tensors(state, str(path))
    source = f"{folder / MANIFEST}: stages.{stage}"
    return StageWeights(state=state, config=entry["config"], extra=entry["extra"], source=source)


def load_file(folder: str | Path, name: str) -> bytes:
    """Read and check an accompanying file written by `save_file`."""
    folder = Path(folder)
    files = read_manifest(folder)["files"]
    if name not in files:
        raise UnknownNameError(f"file of the weights in {folder}", name, files)
    return _read_checked(folder / name, files[name])


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a weights folder. Raises `WeightsError` when missing, damaged or of another format.

    It may name only files beside it; nothing is read or copied from elsewhere.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise WeightsError(f"no {MANIFEST} in {folder}")
    manifest = read_json(path)
    if manifest.get("format") != FORMAT:
        raise WeightsError(f"{path} is not a weights manifest of format {FORMAT}")
    for section in ("stages", "files"):
        if not isinstance(manifest.get(section), dict):
            raise WeightsError(f"{path}: {section} must be a table")
    for stage, entry in manifest["stages"].items():
        where = f"{path}: stages.{stage}"
        for key, kind in {"file": str, "sha256": str, "config": dict, "extra": dict}.items():
            if not isinstance(entry, dict) or not isinstance(entry.get(key), kind):
                raise WeightsError(f"{where}.{key} is missing or not of type {kind.__name__}")
        plain_name(path, entry["file"])
    for name, sha256 in manifest["files"].items():
        plain_name(path, name)
        if not isinstance(sha256, str):
            raise WeightsError(f"{path}: files.{name} must be a sha256")
    return manifest


def copy_weights(source: Path, target: Path) -> None:
    """Copy a weights folder's manifest and its files, after checking that all are there."""
    manifest = read_manifest(source)
    names = [*(stage["file"] for stage in manifest["stages"].values()), *manifest["files"], MANIFEST]
    files = [regular_file(source / name) for name in names]
    for file in files:
        copy_file(file, target / file.name)


def stage_config[T](folder: Path, stage: str, schema: type[T]) -> T:
    """A stage's configuration as the given dataclass, read without its weights.

    Raises `UnknownNameError` for a missing stage, `WeightsError` naming the field that does not fit.
    """
    return build(schema, read_stage(folder, stage)["config"], f"{folder / MANIFEST}: stages.{stage}: config")


def stage_hash(folder: Path, stage: str) -> str:
    """The sha256 of a stage's weights, which identifies them."""
    return read_stage(folder, stage)["sha256"]


def restore[M: nn.Module](make: Callable[[], M], weights: StageWeights, what: str) -> M:
    """The module that `make` builds, with a stage's state. Raises `WeightsError` when they do not fit.

    Names, shapes and types are compared before anything is built, so an absurd config costs no memory.
    """
    try:
        with torch.device("meta"):
            expected = make().state_dict()
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise WeightsError(f"{weights.source}: config builds no {what} ({str(error).splitlines()[0]})") from error
    check_fit(expected, {name: tuple(tensor.shape) for name, tensor in weights.state.items()}, weights.source, what)
    for name, tensor in weights.state.items():
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise WeightsError(
                f"{weights.source}: {what} weight {name} is {tensor.dtype}, needs {expected[name].dtype}"
            )
    module = make()
    module.load_state_dict(weights.state)
    return module


def check_fit(expected: Mapping[str, Tensor], given: Mapping[str, tuple[int, ...]], source: str, what: str) -> None:
    """Raise `WeightsError` naming the first weight whose name or shape is not what a module needs."""
    for name in sorted(set(expected) | set(given)):
        if name not in given:
            missing = len(set(expected) - set(given))
            raise WeightsError(f"{source}: {what} weights do not fit the config: {missing} are missing, as {name}")
        if name not in expected:
            raise WeightsError(f"{source}: {what} weights do not fit the config: unknown weight {name}")
        wanted = tuple(expected[name].shape)
        if given[name] != wanted:
            raise WeightsError(f"{source}: {what} weights do not fit the config: {name} is {given[name]}, not {wanted}")


def read_stage(folder: Path, stage: str) -> dict[str, Any]:
    """A stage's entry in the manifest, read without its weights. Raises `UnknownNameError` for a missing stage."""
    stages = read_manifest(folder)["stages"]
    if stage not in stages:
        raise UnknownNameError(f"stage of the weights in {folder}", stage, stages)
    return stages[stage]


def _is_plain(name: str, value: Tensor) -> bool:
    """Whether a tensor is neither rounded nor a scale."""
    return value.is_floating_point() and not name.endswith(SCALE)


def _write_stage(
    folder: Path, stage: str, state: Mapping[str, Tensor], config: Mapping[str, Any], extra: Mapping[str, Any]
) -> None:
    blob = save({name: value.contiguous().clone() for name, value in state.items()})
    file = f"{stage}.safetensors"
    replace_bytes(folder / file, blob)
    sha256 = hashlib.sha256(blob).hexdigest()
    entry = {"file": file, "sha256": sha256, "config": dict(config), "extra": dict(extra)}
    _update_manifest(folder, "stages", stage, entry)


def _read_checked(path: Path, sha256: str) -> bytes:
    blob = read_bytes(path)
    if hashlib.sha256(blob).hexdigest() != sha256:
        raise WeightsError(f"{path} is corrupted: its sha256 differs from {MANIFEST}")
    return blob


def _update_manifest(folder: Path, section: str, name: str, entry: Any) -> None:
    exists = (folder / MANIFEST).exists()
    manifest = read_manifest(folder) if exists else {"format": FORMAT, "stages": {}, "files": {}}
    manifest[section][name] = entry
    replace_text(folder / MANIFEST, json.dumps(manifest, indent=1, default=str) + "\n")
