"""Official Emu3.5 checkpoints read into our own modules: the language model and the vision tokenizer.

A name is a local folder or a Hugging Face id, resolved through the hub's cache. Nothing in a file is executed: weights
are safetensors, or a pickle read with `weights_only`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from emu_robot.errors import SystemSetupError, WeightsError
from emu_robot.models.transformer import CausalTransformer, TransformerConfig
from emu_robot.tokenizers.image import ImageTokenizer, ImageTokenizerConfig

MODEL_TYPE = "Emu3"
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
LANGUAGE_FILES = ("config.json", "*.safetensors", INDEX, "emu3.tiktoken", "emu3_vision_tokens.txt")
VISION_FILES = ("config.yaml", "model.ckpt")
OURS = {"tie_word_embeddings": False, "references": False}
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


def load_language_model(
    folder: Path, *, dtype: torch.dtype = torch.bfloat16, device: str | torch.device = "cpu"
) -> CausalTransformer:
    """The language model of an official checkpoint, shard by shard, so that memory holds it once.

    Raises `WeightsError` naming the file for a missing, truncated or incomplete shard or a shape that does not fit.
    """
    config, _ = read_language_config(folder)
    with torch.device("meta"):
        model = CausalTransformer(config)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    state: dict[str, Tensor] = {}
    for file, name, tensor in _tensors(folder, device):
        if name not in expected:
            raise WeightsError(f"{file}: unknown weight {name}")
        if tensor.shape != expected[name]:
            raise WeightsError(f"{file}: {name} is {tuple(tensor.shape)}, config.json says {tuple(expected[name])}")
        state[name] = tensor.to(dtype)
    if config.tie_word_embeddings and "model.embed_tokens.weight" in state:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    missing = sorted(set(expected) - set(state))
    if missing:
        raise WeightsError(f"{folder}: {len(missing)} weights are missing, the first is {missing[0]}")
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def _tensors(folder: Path, device: str | torch.device) -> Iterator[tuple[Path, str, Tensor]]:
    for file, names in _shards(folder).items():
        try:
            with safe_open(file, "pt", device=str(device)) as shard:
                present = set(shard.keys())
                for name in sorted(names or present):
                    if name not in present:
                        raise WeightsError(f"{file}: {name} is missing, which {INDEX} promises")
                    yield file, name, shard.get_tensor(name)
        except FileNotFoundError as error:
            raise WeightsError(f"{file} is missing") from error
        except SafetensorError as error:
            raise WeightsError(f"{file} is truncated or damaged: {error}") from error


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
