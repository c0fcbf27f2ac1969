"""Official Emu3.5 checkpoints read into our own modules: the language model and the vision tokenizer.

A name is a local folder or a Hugging Face id, resolved through the hub's cache. Nothing in a file is executed: weights
are safetensors, or a pickle read with `weights_only`.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from emu_robot.emu35.config import PlacementConfig
from emu_robot.emu35.placement import connect, device_map, quantize_linears, torch_dtype
from emu_robot.errors import SystemSetupError, WeightsError
from emu_robot.models.transformer import CausalTransformer, TransformerConfig
from emu_robot.tokenizers.image import ImageTokenizer, ImageTokenizerConfig

MODEL_TYPE = "Emu3"
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
LANGUAGE_FILES = ("config.json", "*.safetensors", INDEX, "emu3.tiktoken", "emu3_vision_tokens.txt")
VISION_FILES = ("config.yaml", "model.ckpt")
OURS = {"tie_word_embeddings": False, "references": False, "unrotated_groups": 0}
"""Settings that the official config.json may leave out."""


def resolve_checkpoint(name_or_path: str | Path, files: tuple[str, ...] = LANGUAGE_FILES) -> Path:
    """The local folder of a checkpoint; a hub id is downloaded, or found in the cache.

    Raises `WeightsError` if it is neither a folder nor a known id, `SystemSetupError` if the hub cannot be reached.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(name_or_path), allow_patterns=list(files)))
    except HFValidationError as error:
        raise WeightsError(f"{name_or_path}: neither a folder nor a Hugging Face id") from error
    except LocalEntryNotFoundError as error:
        raise SystemSetupError(f"{name_or_path}: not in the cache, and the hub cannot be reached") from error
    except HfHubHTTPError as error:
        raise WeightsError(f"{name_or_path}: {str(error).splitlines()[0]}") from error


def read_language_config(folder: Path) -> tuple[TransformerConfig, dict[str, Any]]:
    """Our configuration of an official `config.json`, and all it holds. Raises `WeightsError` if it is another's."""
    path = folder / "config.json"
    try:
        official = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    if official.get("model_type") != MODEL_TYPE:
        raise WeightsError(f"{path}: model_type is {official.get('model_type')!r}, expected {MODEL_TYPE!r}")
    known = OURS | official
    missing = [field.name for field in fields(TransformerConfig) if field.name not in known]
    if missing:
        raise WeightsError(f"{path} lacks {', '.join(missing)}")
    return TransformerConfig(**{field.name: known[field.name] for field in fields(TransformerConfig)}), official


def load_language_model(folder: Path, placement: PlacementConfig | None = None) -> CausalTransformer:
    """The language model of an official checkpoint, part by part, so that no more than one block is held unpacked.

    Raises `WeightsError` naming the file for a missing, truncated or incomplete shard or a shape that does not fit,
    `SystemSetupError` if the devices are too small.
    """
    placement = placement or PlacementConfig(device="cpu")
    config, _ = read_language_config(folder)
    with torch.device("meta"):
        model = CausalTransformer(config)
    places, dtype = device_map(model, placement), torch_dtype(placement)
    shards = _Shards(folder)
    shards.check_names(model, tied=config.tie_word_embeddings)

    def fill[M: nn.Module](module: M, prefix: str) -> M:
        shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
        state = {name: shards.tensor(prefix + name, shape).to(dtype) for name, shape in shapes.items()}
        module.load_state_dict(state, assign=True)
        return module.eval().requires_grad_(False)

    for i, (block, place) in enumerate(zip(model.model.layers, places.blocks, strict=True)):
        quantize_linears(fill(block, f"model.layers.{i}."), placement.quantize, dtype)
        block.to("cpu" if place == "offload" else place)
    model.model.norm = fill(model.model.norm, "model.norm.").to(places.main)
    model.model.embed_tokens = fill(model.model.embed_tokens, "model.embed_tokens.").to(places.main)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    else:
        model.lm_head = fill(model.lm_head, "lm_head.").to(places.main)
    connect(model, places)
    return model.eval()


def save_language_model(folder: Path, model: CausalTransformer, source: Path) -> None:
    """Write a language model in the official format, with the config.json of the checkpoint it came from."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    save_file(state, folder / SINGLE)
    shutil.copyfile(source / "config.json", folder / "config.json")


class _Shards:
    """The tensors of a checkpoint by name, read when asked for; files stay mapped, not loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, {}
        self._place: dict[str, Path] = {}
        for path, promised in _shards(folder).items():
            try:
                shard = safe_open(path, "pt", device="cpu")
            except FileNotFoundError as error:
                raise WeightsError(f"{path} is missing") from error
            except SafetensorError as error:
                raise WeightsError(f"{path} is truncated or damaged: {error}") from error
            present = set(shard.keys())
            if promised - present:
                raise WeightsError(f"{path}: {sorted(promised - present)[0]} is missing, which {INDEX} promises")
            self._files[path] = shard
            self._place |= dict.fromkeys(promised or present, path)

    def check_names(self, model: nn.Module, *, tied: bool) -> None:
        """Raise unless the checkpoint holds exactly what the model needs."""
        expected = set(model.state_dict()) - ({"lm_head.weight"} if tied else set())
        unknown, missing = sorted(set(self._place) - set(model.state_dict())), sorted(expected - set(self._place))
        if unknown:
            raise WeightsError(f"{self._place[unknown[0]]}: unknown weight {unknown[0]}")
        if missing:
            raise WeightsError(f"{self._folder}: {len(missing)} weights are missing, the first is {missing[0]}")

    def tensor(self, name: str, shape: torch.Size) -> Tensor:
        """One tensor. Raises `WeightsError` if its shape is not what config.json says."""
        path = self._place[name]
        tensor = self._files[path].get_tensor(name)
        if tensor.shape != shape:
            raise WeightsError(f"{path}: {name} is {tuple(tensor.shape)}, config.json says {tuple(shape)}")
        return tensor


def _shards(folder: Path) -> Mapping[Path, set[str]]:
    """File -> names that the index puts there (none named: all it holds)."""
    index = folder / INDEX
    if not index.exists():
        return {folder / SINGLE: set()}
    try:
        places: dict[str, str] = json.loads(index.read_text())["weight_map"]
        files: dict[Path, set[str]] = {}
        for name, file in places.items():
            if Path(file).name != file:
                raise WeightsError(f"{index}: {file!r} is not a file beside it")
            files.setdefault(folder / file, set()).add(name)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(f"{index} is damaged ({error!r})") from error
    return files


def load_vision_tokenizer(folder: Path, *, device: str | torch.device = "cpu") -> ImageTokenizer:
    """The IBQ tokenizer of an official `config.yaml` and `model.ckpt`, in float32.

    Raises `WeightsError` naming the file that is missing, damaged or does not fit.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path, checkpoint = folder / "config.yaml", folder / "model.ckpt"
    for file in (path, checkpoint):
        if not file.is_file():
            raise WeightsError(f"{file} is missing")
    try:
        official: Any = OmegaConf.to_container(OmegaConf.load(path))
        config = _vision_config(official)
    except (OmegaConfBaseException, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} does not describe an IBQ tokenizer ({error!r})") from error
    tokenizer = ImageTokenizer(config)
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own, pickle's and zip's errors
        raise WeightsError(f"{checkpoint} cannot be read: {str(error).splitlines()[0]}") from error
    state = content.get("state_dict", content)
    state = {name: tensor for name, tensor in state.items() if name in tokenizer.state_dict()}
    try:
        tokenizer.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{checkpoint} does not fit {path.name}: {str(error).splitlines()[-1].strip()}") from error
    return tokenizer.to(device).eval().requires_grad_(False)


def _vision_config(official: Mapping[str, Any]) -> ImageTokenizerConfig:
    layout = official["ddconfig"]
    return ImageTokenizerConfig(
        resolution=layout["resolution"],
        patch_size=1,
        ch=layout["ch"],
        ch_mult=list(layout["ch_mult"]),
        num_res_blocks=layout["num_res_blocks"],
        attn_resolutions=list(layout["attn_resolutions"]),
        z_channels=layout["z_channels"],
        embed_dim=official["embed_dim"],
        n_embed=official["n_embed"],
        beta=official.get("beta", 0.25),
        learned_position=False,
        local_encoder=False,
        l2_norm=bool(official.get("l2_norm", False)),
        scale=1.0,
    )
