"""Official-format checkpoints tuned on a replay buffer: what is weighed, adapters and whole, loaded again after."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from official_checkpoint import make_checkpoint
from toy_tabletop import toy_buffer

from emu_robot.emu35.config import DType, PlacementConfig, Quantize, WorldModelConfig
from emu_robot.emu35.world_model import load_world_model
from emu_robot.errors import ConfigError
from emu_robot.training.loop import LoopConfig
from emu_robot.training.lora import LoraSettings
from emu_robot.training.world_model import WorldModelSampler, WorldModelTrainConfig, train

MODEL = WorldModelConfig(image_area=64, placement=PlacementConfig(dtype=DType.float32, device="cpu"))


@pytest.fixture
def config(tmp_path: Path) -> WorldModelTrainConfig:
    make_checkpoint(tmp_path / "emu")
    toy_buffer(tmp_path / "data", 4).close()
    loop = LoopConfig(steps=30, batch_size=4, lr=3e-3, warmup_steps=3, log_every=10, ema_decay=0.0, threads=1)
    return WorldModelTrainConfig(
        data=tmp_path / "data",
        out=tmp_path / "run",
        weights=str(tmp_path / "emu"),
        row_length=700,
        model=MODEL,
        loop=loop,
    )


def test_words_codes_and_the_end_are_targets(config: WorldModelTrainConfig) -> None:
    world = load_world_model(config.weights, MODEL)
    sampler, ids_of = WorldModelSampler(world, config), world.text.ids
    ids, weights = sampler.sequence(0)
    answer = len(ids) - 1 - ids[::-1].index(ids_of.begin_answer)
    assert set(weights[: answer + 1]) == {0.0}
    for token, weight in list(zip(ids, weights, strict=True))[answer + 1 :]:
        if token >= ids_of.first_code:
            assert weight == 0.5
        elif token in (ids_of.img, ids_of.eol, ids_of.eoi):
            assert weight == 0.0
        elif token in (ids_of.boi, ids_of.end_answer):
            assert weight == 1.0
    batch = sampler(0)
    assert batch["ids"].shape[1] == config.row_length - 1
    assert float(batch["weights"].sum()) > 0


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("quantize", [Quantize.int8, Quantize.nf4])
def test_weights_in_8_or_4_bits_are_not_trained(config: WorldModelTrainConfig, quantize: Quantize, rank: int) -> None:
    placed = replace(MODEL, placement=replace(MODEL.placement, quantize=quantize))
    with pytest.raises(ConfigError, match=f"quantize={quantize.value}: such weights cannot be trained"):
        train(replace(config, model=placed, lora=LoraSettings(rank=rank)))
    assert not config.out.exists()


@pytest.mark.parametrize("rank", [0, 4])
def test_tuning_lowers_the_loss_and_the_result_is_a_checkpoint(config: WorldModelTrainConfig, rank: int) -> None:
    config = replace(config, lora=LoraSettings(rank=rank))
    before = load_world_model(config.weights, MODEL).model
    tuned = load_world_model(train(config), MODEL).model
    lines = (config.out / "world_model/metrics.jsonl").read_text().splitlines()
    losses = [float(line.split('"loss": ')[1].split(",")[0]) for line in lines if '"loss"' in line]
    assert losses[-1] < 0.8 * losses[0]
    same = [name for name, value in before.state_dict().items() if torch.equal(value, tuned.state_dict()[name])]
    adapted = [name for name in before.state_dict() if name.endswith("_proj.weight")]
    assert not set(adapted) & set(same)
    assert ("lm_head.weight" in same) == (rank > 0)
    saved = torch.load(config.out / "world_model/checkpoint.pt", weights_only=True)["model"]
    assert all("lora_" in name for name in saved) == (rank > 0)
