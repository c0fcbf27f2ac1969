"""Weights folders: round trip, and one clear error per kind of damage."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from emu_robot.errors import UnknownNameError, WeightsError
from emu_robot.models.rounding import SCALE
from emu_robot.models.weights import (
    copy_weights,
    load_file,
    load_weights,
    resolve_weights,
    restore,
    round_weights,
    save_file,
    save_weights,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_weights(tmp_path, "head", nn.Linear(4, 3).state_dict(), {"width": 3}, extra={"mean": [0.5]})
    save_weights(tmp_path, "planner", nn.Linear(4, 2).state_dict(), {"width": 2}, half=True)
    save_file(tmp_path, "text.json", b"{}")
    return tmp_path


def test_round_trip(folder: Path) -> None:
    torch.manual_seed(0)
    head = load_weights(resolve_weights(folder), "head")
    assert torch.equal(head.state["weight"], nn.Linear(4, 3).weight)
    assert head.config == {"width": 3}
    assert head.extra == {"mean": [0.5]}
    assert load_weights(folder, "planner").state["weight"].dtype == torch.float32
    assert load_file(folder, "text.json") == b"{}"


def test_unknown_names_say_what_exists(folder: Path) -> None:
    with pytest.raises(UnknownNameError, match="'tokenizer'; known: head, planner"):
        load_weights(folder, "tokenizer")
    with pytest.raises(UnknownNameError, match="unknown weights 'nope'"):
        resolve_weights("nope")
    with pytest.raises(UnknownNameError, match=r"known: text\.json"):
        load_file(folder, "words.json")


def test_flipped_byte_is_found(folder: Path) -> None:
    path = folder / "head.safetensors"
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.write_bytes(blob)
    with pytest.raises(WeightsError, match=r"head\.safetensors is corrupted"):
        load_weights(folder, "head")


def test_missing_file_bad_manifest_and_not_finite(folder: Path) -> None:
    (folder / "planner.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"planner\.safetensors is missing"):
        load_weights(folder, "planner")
    save_weights(folder, "bad", {"w": torch.tensor([1.0, float("nan")])}, {})
    with pytest.raises(WeightsError, match="w holds values that are not finite"):
        load_weights(folder, "bad")
    (folder / "manifest.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(WeightsError, match="format 1"):
        load_weights(folder, "head")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(WeightsError, match="is not JSON"):
        load_weights(folder, "head")


def test_nothing_outside_the_folder_is_read_or_copied_over(folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (tmp_path / "target").mkdir()
    for section, change in (
        ("files", {"../text.json": "0"}),
        ("stages", {"head": {**manifest["stages"]["head"], "file": "/etc/passwd"}}),
    ):
        (folder / "manifest.json").write_text(json.dumps({**manifest, section: manifest[section] | change}))
        with pytest.raises(WeightsError, match="is not a file beside it"):
            copy_weights(folder, tmp_path / "target/inner")
        with pytest.raises(WeightsError, match="is not a file beside it"):
            load_weights(folder, "head")
    assert not list((tmp_path / "target").iterdir())


@dataclass
class Width:
    width: int = 1


def test_configs_are_typed_and_weights_are_of_the_right_kind(folder: Path) -> None:
    head = load_weights(folder, "head")
    assert head.settings(Width) == Width(width=3)
    for wrong, message in (
        ({"width": "3"}, r"stages\.head: config: width is '3', must be of type int"),
        ({"width": 3, "foo": 1}, r"unknown field 'foo'; known: width"),
        ({"width": True}, "width is True"),
    ):
        with pytest.raises(WeightsError, match=message):
            replace(head, config=wrong).settings(Width)
    whole_numbers = replace(head, state={name: tensor.int() for name, tensor in head.state.items()})
    with pytest.raises(WeightsError, match=r"head weight (bias|weight) is torch\.int32, needs torch\.float32"):
        restore(lambda: nn.Linear(4, 3), whole_numbers, "head")
    with pytest.raises(WeightsError, match="head weights do not fit the config: bias"):
        restore(lambda: nn.Linear(10**9, 10**6), head, "head")  # 4 PB if it were built


def test_weights_that_do_not_fit_their_config(folder: Path) -> None:
    with pytest.raises(WeightsError, match="head weights do not fit"):
        restore(lambda: nn.Linear(5, 3), load_weights(folder, "head"), "head")


def test_matrices_rounded_to_8_bits_come_back_near_and_take_a_quarter_of_the_space(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = nn.Linear(64, 256)
    wide.weight.data[3] *= 1000  # each output has a scale of its own
    wide.weight.data[5] = 0
    module = nn.Sequential(nn.Conv2d(16, 64, 3), wide, nn.Linear(4, 4))
    exact = {name: value.clone() for name, value in module.state_dict().items()}
    save_weights(tmp_path, "head", exact, {"width": 3}, extra={"mean": [0.5]})
    size = (tmp_path / "head.safetensors").stat().st_size
    round_weights(tmp_path, "head")
    assert (tmp_path / "head.safetensors").stat().st_size < 0.3 * size
    found = load_weights(tmp_path, "head")
    assert (found.config, found.extra) == ({"width": 3}, {"mean": [0.5]})
    assert set(found.state) == set(exact) and {value.dtype for value in found.state.values()} == {torch.float32}
    for name in ("0.weight", "1.weight"):
        largest = exact[name].abs().flatten(1).amax(1)
        error = (found.state[name] - exact[name]).abs().flatten(1).amax(1)
        assert (error <= largest / 127 * 0.501).all() and error.max() > 0
    assert torch.equal(found.state["2.weight"], exact["2.weight"].half().float()), "too small to be rounded"
    before = found.state
    round_weights(tmp_path, "head")
    assert all(torch.equal(value, before[name]) for name, value in load_weights(tmp_path, "head").state.items())


def test_a_scale_without_its_tensor_is_named(tmp_path: Path) -> None:
    save_weights(tmp_path, "head", {"weight" + SCALE: torch.ones(3), "weight": torch.ones(3, 2)}, {})
    with pytest.raises(WeightsError, match=r"weight.int8_scale has no int8 tensor weight with as many outputs"):
        load_weights(tmp_path, "head")
