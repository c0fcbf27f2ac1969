"""Damaged checkpoints: each fault is one typed line that names the file, without reading or building anything large."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from emu_robot.emu35.checkpoint import INDEX, load_language_model, load_vision_tokenizer
from emu_robot.emu35.config import DType, PlacementConfig
from emu_robot.emu35.text import RANKS, VISION, Emu3Text
from emu_robot.errors import WeightsError
from emu_robot.models.weights import read_manifest, save_weights

FIRST = "model-00001-of-00002.safetensors"
FLOAT32 = PlacementConfig(dtype=DType.float32, device="cpu")
type Damage = Callable[[Path], object]


def rewrite(file: str, **changes: Any) -> Damage:
    """Set fields of a JSON file."""

    def damage(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def text(file: str, content: str | bytes) -> Damage:
    return lambda folder: (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)


def tensors(change: Callable[[torch.Tensor], torch.Tensor]) -> Damage:
    def damage(folder: Path) -> None:
        state = load_file(folder / FIRST)
        name = min(state)
        save_file(state | {name: change(state[name])}, folder / FIRST)

    return damage


def other_kind(file: str, make: Callable[[Path], object]) -> Damage:
    def damage(folder: Path) -> None:
        (folder / file).unlink()
        make(folder / file)

    return damage


def shard(content: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: (folder / FIRST).write_bytes(content((folder / FIRST).read_bytes()))


def index(name: Any) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / INDEX).read_text())
        content["weight_map"][min(content["weight_map"])] = name
        (folder / INDEX).write_text(json.dumps(content))

    return damage


def yaml_rewrite(**changes: Any) -> Damage:
    """Set fields of the vision tokenizer's `ddconfig`."""

    def damage(folder: Path) -> None:
        content = yaml.safe_load((folder / VISUAL).read_text())
        content["ddconfig"] |= changes
        (folder / VISUAL).write_text(yaml.safe_dump(content))

    return damage


CONFIG = "config.json"
LANGUAGE: dict[str, tuple[Damage, str]] = {
    "list": (text(CONFIG, "[]"), "holds a list"),
    "null": (text(CONFIG, "null"), "holds a NoneType"),
    "empty": (text(CONFIG, ""), "is not JSON"),
    "deep": (text(CONFIG, "[" * 200_000), "is not JSON"),
    "not UTF-8": (text(CONFIG, b"\xff\xfe\x00"), "is not UTF-8"),
    "a number is NaN": (text(CONFIG, '{"model_type": "Emu3", "rms_norm_eps": NaN}'), "NaN is no number"),
    "layers 1e9": (
        rewrite(CONFIG, num_hidden_layers=10**9),
        r"num_hidden_layers is 1000000000, must lie in \[1, 1024\]",
    ),
    "layers 0": (rewrite(CONFIG, num_hidden_layers=0), "num_hidden_layers is 0"),
    "layers text": (rewrite(CONFIG, num_hidden_layers="2"), "num_hidden_layers is '2', must be of type int"),
    "layers float": (rewrite(CONFIG, num_hidden_layers=2.0), "num_hidden_layers is 2.0, must be of type int"),
    "layers null": (rewrite(CONFIG, num_hidden_layers=None), "num_hidden_layers is None"),
    "layers true": (rewrite(CONFIG, num_hidden_layers=True), "num_hidden_layers is True"),
    "hidden 1e30": (rewrite(CONFIG, hidden_size=10**30), "hidden_size is 1000"),
    "hidden 1e5": (rewrite(CONFIG, hidden_size=10**5), "weights do not fit the config"),
    "no groups": (rewrite(CONFIG, num_key_value_heads=0), "num_key_value_heads is 0"),
    "theta text": (rewrite(CONFIG, rope_theta="1e6"), "rope_theta is '1e6'"),
    "theta 0": (rewrite(CONFIG, rope_theta=0), "rope_theta is 0"),
    "theta negative": (rewrite(CONFIG, rope_theta=-5.0), "rope_theta is -5"),
    "rope_scaling": (rewrite(CONFIG, rope_scaling={"rope_type": "yarn", "factor": 4.0}), "rope_scaling is"),
    "rope_parameters": (rewrite(CONFIG, rope_parameters={"rope_type": "yarn"}), "rope_parameters is"),
    "activation": (rewrite(CONFIG, hidden_act="gelu"), "hidden_act is 'gelu', must be 'silu'"),
    "bias": (rewrite(CONFIG, attention_bias=True), "attention_bias is True"),
    "quantised": (rewrite(CONFIG, quantization_config={"bits": 4}), "quantization_config is"),
    "sliding": (rewrite(CONFIG, layer_types=["sliding_attention"]), "layer_types must all be full_attention"),
    "two heads": (rewrite(CONFIG, tie_word_embeddings=True), "tie_word_embeddings is set, but lm_head.weight is not"),
    "int32": (tensors(lambda x: x.to(torch.int32)), "is int32, must be floating numbers"),
    "float8": (tensors(lambda x: x.to(torch.float8_e4m3fn)), "is float8_e4m3fn, must be floating numbers"),
    "nan": (tensors(lambda x: x * torch.nan), "holds values that are not finite"),
    "inf": (tensors(lambda x: x + torch.inf), "holds values that are not finite"),
    "empty shard": (shard(lambda _: b""), "is truncated or damaged"),
    "cut by a byte": (shard(lambda content: content[:-1]), "is truncated or damaged"),
    "huge header": (shard(lambda content: struct.pack("<Q", 2**62) + content[8:]), "is truncated or damaged"),
    "no header": (shard(lambda _: struct.pack("<Q", 8) + b"garbage!" + b"0" * 99), "is truncated or damaged"),
    "pipe": (other_kind(FIRST, os.mkfifo), "is not a regular file"),
    "folder": (other_kind(FIRST, Path.mkdir), "is not a regular file"),
    "loop": (other_kind(FIRST, lambda path: path.symlink_to(path)), "cannot be read"),
    "config is a pipe": (other_kind(CONFIG, os.mkfifo), "is not a regular file"),
    "index above": (index("../x.safetensors"), "is not a file beside it"),
    "index dots": (index(".."), "is not a file beside it"),
    "index empty": (index(""), "is not a file beside it"),
    "index nul": (index("a\0b"), "is not a file beside it"),
    "index number": (index(3), "is not a file beside it"),
    "index list": (text(INDEX, "[1]"), "holds a list"),
    "index without files": (text(INDEX, '{"weight_map": {}}'), "weight_map must be a table"),
}
VISUAL = "vision/config.yaml"
OTHER: dict[str, tuple[Damage, str]] = {
    "no ranks": (text(RANKS, ""), "byte 0 has no rank"),
    "few ranks": (text(RANKS, "YQ== 0\n"), "byte 0 has no rank"),
    "rank of words": (text(RANKS, "YQ== x\n"), "line 1: not a token and its rank"),
    "no codes": (text(VISION, "<|image token|>\n"), "visual tokens must come last"),
    "code twice": (
        text(VISION, "<|image token|>\n<|image token|>\n<|visual token 000000|>\n"),
        "a token is there twice",
    ),
    "no marks": (text(VISION, "<|visual token 000000|>\n"), r"has no <\|image start\|>"),
    "vision not UTF-8": (text(VISION, b"\xff"), "is not UTF-8"),
    "yaml bomb": (text(VISUAL, "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"), "aliases are not allowed"),
    "yaml open": (text(VISUAL, "ddconfig: [\n"), "is not YAML"),
    "yaml long": (text(VISUAL, "a: " + "x" * 10**5), "must have at most 65536"),
    "yaml list": (text(VISUAL, "- 1\n"), "holds a list"),
    "yaml code": (text(VISUAL, "a: !!python/object/apply:os.system [ls]\n"), "is not YAML"),
    "blocks 1e9": (yaml_rewrite(num_res_blocks=10**9), r"num_res_blocks is 1000000000, must lie in \[1, 64\]"),
    "many levels": (yaml_rewrite(ch_mult=[1] * 10**4), r"ch_mult is .*, must be 1 to 8 whole numbers in 1\.\.64"),
    "no levels": (yaml_rewrite(ch_mult=None), "ch_mult is None, must be a list"),
    "side 1e9": (yaml_rewrite(attn_resolutions=[10**9]), "attn_resolutions is .*, must be 0 to 8 whole numbers"),
    "resolution 1e9": (yaml_rewrite(resolution=2**30), "resolution is 1073741824, must lie in"),
    "no state": (lambda folder: torch.save([1], folder / "vision/model.ckpt"), "holds no state dict"),
    "no weights": (lambda folder: torch.save({"state_dict": 3}, folder / "vision/model.ckpt"), "holds no state dict"),
    "no pickle": (text("vision/model.ckpt", b"\x80\x02garbage"), "cannot be read"),
    "vision pipe": (other_kind("vision/model.ckpt", os.mkfifo), "is not a regular file"),
}


def load_all(folder: Path) -> None:
    Emu3Text.load(folder)
    load_vision_tokenizer(folder / "vision")
    load_language_model(folder, FLOAT32)


@pytest.mark.parametrize("case", [*LANGUAGE, *OTHER])
def test_each_fault_is_one_line_that_names_the_file(checkpoint: Path, case: str) -> None:
    damage, message = (LANGUAGE | OTHER)[case]
    damage(checkpoint)
    with pytest.raises(WeightsError, match=message) as caught:
        load_all(checkpoint)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "harmless",
    [
        rewrite(CONFIG, rope_scaling=None, hidden_act="silu", attention_bias=False, sliding_window=None, note="mine"),
        rewrite(CONFIG, rope_parameters={"rope_theta": 1e6, "rope_type": "default"}),
        rewrite(CONFIG, rope_theta=1_000_000, layer_types=["full_attention"] * 2),
        tensors(lambda x: x.double()),
        tensors(lambda x: x.half()),
    ],
)
def test_what_changes_nothing_is_taken(checkpoint: Path, harmless: Damage) -> None:
    harmless(checkpoint)
    load_all(checkpoint)


def test_a_manifest_names_files_beside_it_only(tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    save_weights(folder, "planner", torch.nn.Linear(4, 2).state_dict(), {"width": 2})
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["stages"]["planner"]["file"] = "../planner.safetensors"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match=r"'\.\./planner\.safetensors' is not a file beside it"):
        read_manifest(folder)
