"""Read official Emu3.5 checkpoints into our own modules: the language model and the vision tokenizer.

A name is a local folder or a Hugging Face id, resolved through the hub's cache. Nothing in a file is executed: weights
are safetensors, or a pickle read with `weights_only`. Sizes are compared with the files before anything is built.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from emu_robot.emu35.config import PlacementConfig
from emu_robot.emu35.placement import Demand, connect, device_map, quantize_linears, torch_dtype
from emu_robot.errors import SystemSetupError, WeightsError
from emu_robot.models.files import TensorFile, build, finite, plain_name, read_json, read_yaml, regular_file
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig
from emu_robot.models.weights import check_fit
from emu_robot.shared.files import copy_file, replacing
from emu_robot.tokenizers.image import ImageTokenizer, ImageTokenizerConfig

MODEL_TYPE = "Emu3"
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
VISION_FILES = ("config.yaml", "model.ckpt")
LANGUAGE_FILES = (
    *("config.json", "*.safetensors", INDEX, "emu3.tiktoken", "emu3_vision_tokens.txt"),
    *(f"vision/{name}" for name in VISION_FILES),
)
HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"
OURS = {
    "tie_word_embeddings": False, "references": False, "unrotated_groups": 0, "code_books": 1, "book_size": 0,
    "n_names": 0,
}  # fmt: skip
"""Settings that the official config.json may leave out."""
SAME = {"hidden_act": "silu", "rope_scaling": None, "attention_bias": False, "use_sliding_window": False}
"""Official settings with the only value that this model supports, which is also their default."""
COMPUTES = re.compile("rope|scal|bias|window|quant|act|softcap|moe|expert|norm|adapter|layer_types")
HARMLESS = {"sliding_window", "max_window_layers", "layer_types", "rope_theta", "rms_norm_eps"}
"""Settings that look as if they changed the computation, but do not, or are checked apart."""


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
        raise SystemSetupError(
            f"{name_or_path}: no folder here, not in the cache, and the hub cannot be reached"
        ) from error
    except HfHubHTTPError as error:
        raise WeightsError(f"{name_or_path}: {str(error).splitlines()[0]}") from error


def read_language_config(folder: Path) -> TransformerConfig:
    """Our configuration of an official `config.json`.

    Raises `WeightsError` for another model's configuration, a field that is missing or out of range, and a setting that
    this model does not support.
    """
    path = folder / "config.json"
    official = read_json(path)
    if official.get("model_type") != MODEL_TYPE:
        raise WeightsError(f"{path}: model_type is {official.get('model_type')!r}, expected {MODEL_TYPE!r}")
    known = OURS | official
    if isinstance(rope := known.pop("rope_parameters", None), dict):  # as transformers 5 writes it
        if rope.keys() - {"rope_theta", "rope_type"} or rope.get("rope_type", "default") != "default":
            raise WeightsError(f"{path}: rope_parameters is {rope}, only rope_type default is known")
        known.setdefault("rope_theta", rope.get("rope_theta"))
    for name, value in known.items():
        if name in SAME and value != SAME[name]:
            raise WeightsError(f"{path}: {name} is {value!r}, must be {SAME[name]!r}")
        if COMPUTES.search(name) and value and name not in SAME.keys() | HARMLESS:
            raise WeightsError(f"{path}: {name} is {value!r}, which this model does not know")
    layers = known.get("layer_types") or []
    if not isinstance(layers, list) or any(kind != "full_attention" for kind in layers):
        raise WeightsError(f"{path}: layer_types must all be full_attention")
    names = [field.name for field in fields(TransformerConfig)]
    missing = [name for name in names if name not in known]
    if missing:
        raise WeightsError(f"{path} lacks {', '.join(missing)}")
    return build(TransformerConfig, {name: known[name] for name in names}, str(path))


def load_language_model(
    folder: Path, placement: PlacementConfig | None = None, demand: Demand | None = None
) -> CausalTransformer:
    """The language model of an official checkpoint, read part by part, so that at most one block is unpacked.

    Raises `WeightsError` naming the file for a missing, truncated or incomplete shard or a shape that does not fit,
    `SystemSetupError` if the devices are too small for it and `demand`.
    """
    placement = placement or PlacementConfig(device="cpu")
    config = read_language_config(folder)
    with torch.device("meta"):
        model = CausalTransformer(config)
    shards = _Shards(folder)
    shards.check(model, tied=config.tie_word_embeddings)
    places, dtype = device_map(model, placement, demand), torch_dtype(placement)

    def fill[M: nn.Module](module: M, prefix: str) -> M:
        state = {name: shards.tensor(prefix + name).to(dtype) for name in module.state_dict()}
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
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del state[HEAD]
    with replacing(folder / SINGLE) as partial:
        save_file(state, partial)
    copy_file(source / "config.json", folder / "config.json")


class _Shards:
    """The tensors of a checkpoint by name, read on request; files stay mapped, not loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place: dict[str, TensorFile] = {}
        for path, promised in _shards(folder).items():
            shard = TensorFile(path)
            if promised - shard.names:
                raise WeightsError(f"{path}: {min(promised - shard.names)} is missing, which {INDEX} promises")
            if promised and shard.names - promised:
                raise WeightsError(f"{path}: {min(shard.names - promised)} is not in {INDEX}")
            self._place |= dict.fromkeys(shard.names, shard)

    def check(self, model: nn.Module, *, tied: bool) -> None:
        """Raise unless the checkpoint holds exactly what the model needs, each weight in its shape.

        A tied model needs no head; one that is there must be its embeddings.
        """
        expected = dict(model.state_dict())
        if tied and HEAD not in self._place:
            del expected[HEAD]
        shapes = {name: shard.shape(name) for name, shard in self._place.items()}
        check_fit(expected, shapes, str(self._folder), "language model")
        if tied and HEAD in self._place and not torch.equal(self.tensor(HEAD), self.tensor(EMBEDDINGS)):
            raise WeightsError(f"{self._folder}: tie_word_embeddings is set, but {HEAD} is not {EMBEDDINGS}")

    def tensor(self, name: str) -> Tensor:
        """One tensor. Raises `WeightsError` unless its numbers are floating and finite."""
        return self._place[name].tensor(name)


def _shards(folder: Path) -> Mapping[Path, set[str]]:
    """File -> names of its tensors in the index; an empty set means all."""
    index = folder / INDEX
    if not index.exists():
        return {folder / SINGLE: set()}
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise WeightsError(f"{index}: weight_map must be a table that names files")
    files: dict[Path, set[str]] = {}
    for name, file in places.items():
        files.setdefault(folder / plain_name(index, file), set()).add(name)
    return files


def load_vision_tokenizer(folder: Path, *, device: str | torch.device = "cpu") -> ImageTokenizer:
    """The IBQ tokenizer of an official `config.yaml` and `model.ckpt`, in float32.

    Weights of `model.ckpt` that serve training alone (losses, a discriminator) are left out.
    Raises `WeightsError` naming the file that is missing, damaged or does not fit.
    """
    config, path = read_vision_config(folder), regular_file(folder / "model.ckpt")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own, pickle's and zip's errors
        raise WeightsError(f"{path} cannot be read: {(str(error) or repr(error)).splitlines()[0]}") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise WeightsError(f"{path} holds no state dict")
    with torch.device("meta"):
        expected = ImageTokenizer(config).state_dict()
    state = {name: finite(path, name, tensor).float() for name, tensor in state.items() if name in expected}
    check_fit(expected, {name: tuple(tensor.shape) for name, tensor in state.items()}, str(path), "vision tokenizer")
    tokenizer = ImageTokenizer(config)
    tokenizer.load_state_dict(state)
    return tokenizer.to(device).eval().requires_grad_(False)


def read_vision_config(folder: Path) -> ImageTokenizerConfig:
    """Our configuration of an official `config.yaml`. Raises `WeightsError` naming the field that does not fit."""
    path = folder / "config.yaml"
    official = read_yaml(path)
    layout = official.get("ddconfig")
    if not isinstance(layout, dict):
        raise WeightsError(f"{path}: ddconfig is missing or no table")
    for name, wanted in _VISION_SAME.items():
        if (given := layout.get(name, wanted)) != wanted:
            raise WeightsError(f"{path}: {name} is {given!r}, must be {wanted!r}")
    places = dict.fromkeys(_LAYOUT, layout) | {"embed_dim": official, "n_embed": official}
    missing = [name for name, place in places.items() if name not in place]
    if missing:
        raise WeightsError(f"{path} lacks {', '.join(missing)}")
    taken: dict[str, Any] = {name: place[name] for name, place in places.items()}
    taken |= {"beta": official.get("beta", 0.25), "l2_norm": official.get("l2_norm", False)}
    ours = {"patch_size": 1, "learned_position": False, "encoder": "official", "scale": 1.0}
    return build(ImageTokenizerConfig, taken | ours, str(path))


_LAYOUT = ("resolution", "ch", "ch_mult", "num_res_blocks", "attn_resolutions", "z_channels")
_VISION_SAME = {"in_channels": 3, "out_ch": 3, "double_z": False, "dropout": 0.0}
