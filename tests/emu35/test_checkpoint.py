"""Official checkpoints: golden outputs, and every way in which a folder can be wrong."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from official_checkpoint import make_checkpoint
from safetensors.torch import load_file, save_file

from emu_robot.emu35.checkpoint import load_language_model, load_vision_tokenizer, resolve_checkpoint
from emu_robot.emu35.config import DType, PlacementConfig
from emu_robot.errors import SystemSetupError, WeightsError

GOLDEN = Path(__file__).parents[1] / "golden"
FLOAT32 = PlacementConfig(dtype=DType.float32, device="cpu")
SECOND = "model-00002-of-00002.safetensors"


@torch.no_grad()
def test_official_checkpoints_give_the_official_outputs() -> None:
    golden = load_file(GOLDEN / "tiny_lm/golden.safetensors")
    model = load_language_model(GOLDEN / "tiny_lm", FLOAT32)
    torch.testing.assert_close(model(golden["input_ids"]), golden["logits"], atol=1e-4, rtol=0)
    golden = load_file(GOLDEN / "tiny_ibq/golden.safetensors")
    tokenizer = load_vision_tokenizer(GOLDEN / "tiny_ibq")
    assert torch.equal(tokenizer.encode(golden["image"]), golden["codes"])
    torch.testing.assert_close(tokenizer.decode(golden["codes"]), golden["reconstruction"], atol=1e-4, rtol=0)


def test_shards_load_in_the_wanted_type(checkpoint: Path) -> None:
    model = load_language_model(checkpoint)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    shard = load_file(checkpoint / SECOND)
    for name, tensor in shard.items():
        assert torch.equal(model.state_dict()[name], tensor.bfloat16())


def rewrite(path: Path, **changes) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in {**content, **changes}.items() if value is not None}))


def test_what_is_wrong_with_a_language_model_is_named(checkpoint: Path) -> None:
    config, second = checkpoint / "config.json", checkpoint / SECOND
    original, whole = config.read_text(), second.read_bytes()
    rewrite(config, model_type="qwen3")
    with pytest.raises(WeightsError, match=r"model_type is 'qwen3', expected 'Emu3'"):
        load_language_model(checkpoint)
    config.write_text(original)
    rewrite(config, head_dim=None)
    with pytest.raises(WeightsError, match=r"config\.json lacks head_dim"):
        load_language_model(checkpoint)
    config.write_text(original)
    rewrite(config, vocab_size=40)
    with pytest.raises(WeightsError, match=r"is \(\d+, 64\), not \(40, 64\)"):
        load_language_model(checkpoint)
    config.write_text(original)
    second.write_bytes(whole[:-100])
    with pytest.raises(WeightsError, match=f"{SECOND} is truncated or damaged"):
        load_language_model(checkpoint)
    second.write_bytes(whole)
    shard = load_file(second)
    name = sorted(shard)[0]
    save_file({key: tensor for key, tensor in shard.items() if key != name}, second)
    with pytest.raises(WeightsError, match=f"{name} is missing, which model.safetensors.index.json promises"):
        load_language_model(checkpoint)
    second.unlink()
    with pytest.raises(WeightsError, match=f"{SECOND} is missing"):
        load_language_model(checkpoint)
    rewrite(checkpoint / "model.safetensors.index.json", weight_map={name: "../../etc/passwd"})
    with pytest.raises(WeightsError, match="is not a file beside it"):
        load_language_model(checkpoint)


def test_an_incomplete_single_file_is_named(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors.index.json").unlink()
    save_file(load_file(checkpoint / SECOND), checkpoint / "model.safetensors")
    with pytest.raises(WeightsError, match=r"language model weights do not fit the config: \d+ are missing, as "):
        load_language_model(checkpoint)


class Harm:
    def __reduce__(self):
        return (print, ("executed",))


def test_what_is_wrong_with_a_vision_tokenizer_is_named(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vision = checkpoint / "vision"
    tokenizer = load_vision_tokenizer(vision)
    assert tokenizer.config.n_embed == 16
    torch.save({"state_dict": {"x": Harm()}}, vision / "model.ckpt")
    with pytest.raises(WeightsError, match=r"model\.ckpt cannot be read"):
        load_vision_tokenizer(vision)
    assert "executed" not in capsys.readouterr().out
    torch.save({"state_dict": {}}, vision / "model.ckpt")
    with pytest.raises(
        WeightsError, match=r"model\.ckpt: vision tokenizer weights do not fit the config: \d+ are missing"
    ):
        load_vision_tokenizer(vision)
    (vision / "config.yaml").write_text("n_embed: 3\n")
    with pytest.raises(WeightsError, match=r"config\.yaml: ddconfig is missing"):
        load_vision_tokenizer(vision)
    (vision / "model.ckpt").unlink()
    make_checkpoint(vision / "again")
    shutil.copyfile(vision / "again/vision/config.yaml", vision / "config.yaml")
    with pytest.raises(WeightsError, match=r"model\.ckpt is missing"):
        load_vision_tokenizer(vision)


def test_names_resolve_to_folders_or_say_why_not(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_checkpoint(checkpoint) == checkpoint
    with pytest.raises(WeightsError, match="neither a folder nor a Hugging Face id"):
        resolve_checkpoint("not/a/folder")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SystemSetupError, match=r"BAAI/Emu3\.5: no folder here, not in the cache"):
        resolve_checkpoint("BAAI/Emu3.5")
